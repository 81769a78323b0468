// What stands around the video: its name and state, the controls, the editor of what is chosen, and the table.
import { clock, figure, make } from "/static/shared.js";
import * as api from "./api.js";
import { parseTime } from "./edits.js";
import { SPEEDS } from "./player.js";

const byId = (id) => document.getElementById(id);

const span = (one) => `${one.label}, ${clock(one.start)} – ${clock(one.end)}`;
const said = (one, run) => `Error of ${run}: ${one.kind}: ${span(one)}.${one.truth ? ` The label is ${span(one.truth)}.` : ""} If the label is wrong, correct it.`;

export class Panel {
  constructor(app) {
    this.app = app;
    this.time0 = "";
    this.#buttons();
    for (const speed of SPEEDS) byId("speed").append(new Option(`${speed}×`, speed, speed === 1, speed === 1));
    byId("speed").addEventListener("change", () => app.player.speed(Number(byId("speed").value)));
    byId("snap").addEventListener("change", () => { app.snaps = byId("snap").checked; });
    byId("state").addEventListener("change", () => app.edit(`state ${byId("state").value}`, { ...app.entry, state: byId("state").value }));
    byId("subset").addEventListener("change", () => this.#subset());
    byId("threshold").addEventListener("input", () => {
      app.threshold = Number(byId("threshold").value);
      app.draw();
    });
    byId("rows").addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-id]");
      if (row) app.select(row.dataset.id);
    });
    byId("rows").addEventListener("dblclick", () => app.chosen.one && app.player.play(app.chosen.one));
    byId("player").addEventListener("click", () => app.player.toggle());
    app.player.broke = () => this.#broken();
    this.#edit();
  }

  #buttons() {
    const { app } = this;
    const acts = {
      "frame-back": () => app.player.step(-1), "frame-on": () => app.player.step(1), play: () => app.player.toggle(),
      "mark-in": () => app.markIn(), "mark-out": () => app.markOut(), undo: () => app.step("undo"), redo: () => app.step("redo"),
      "zoom-in": () => app.timeline.zoom(0.5), "zoom-out": () => app.timeline.zoom(2), "zoom-all": () => app.timeline.all(),
      "previous-video": () => app.video(-1), "next-video": () => app.video(1), done: () => app.checked(),
      "accept-all": () => app.review.acceptAll(), "reject-all": () => app.review.rejectHidden(),
    };
    for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
  }

  async #subset() {
    const { app } = this;
    const value = byId("subset").value;
    if (value !== "\n") return app.edit(`subset ${value}`, { ...app.entry, subset: value });
    const name = (await app.ask("New subset", "Name, such as training or validation"))?.trim();
    if (name) {
      if (!app.state.subsets.includes(name)) app.state.subsets.push(name);
      app.edit(`subset ${name}`, { ...app.entry, subset: name });
    }
    return this.draw();
  }

  opened() {
    byId("nothing").hidden = true;
    byId("desk").hidden = false;
    byId("video-name").textContent = this.app.entry.id;
    document.title = `${this.app.entry.id} – lofi studio`;
    byId("making").hidden = true;
  }

  // What the server says of the file to play: the video itself, a copy in the making, or why there is none.
  media({ url, state, share, problem, offset }) {
    const box = byId("making");
    const ready = state === "ready" || state === "original";
    box.hidden = ready;
    byId("player").hidden = !ready;
    if (ready) {
      const { player } = this.app;
      if (player.video.getAttribute("src") !== url) player.source(url, offset);
      player.speed(Number(byId("speed").value));
      return;
    }
    const bar = box.querySelector("progress");
    bar.hidden = state !== "making";
    if (Number.isFinite(share)) bar.value = share;
    else bar.removeAttribute("value");
    box.querySelector("p").textContent = state === "making"
      ? "The browser cannot play this file. A copy that it can play is being made; its times stay the same. You can label meanwhile."
      : `This video cannot be shown${problem ? `: ${problem}` : "."} The timeline works without it.`;
  }

  // A file that should play and does not: ask for a copy, once.
  async #broken() {
    const { entry } = this.app;
    if (!entry || !byId("player").getAttribute("src") || this.asked === entry.id) return;
    this.asked = entry.id;
    try {
      const media = await api.post(api.videoPath(entry.id, "media"));
      if (this.app.entry === entry || this.app.entry?.id === entry.id) this.media(media);
    } catch (problem) { this.media({ state: "failed", problem: problem.message }); }
  }

  time() {
    const { player } = this.app;
    const frame = player.frame;
    const text = `${clock(player.now, 3)} / ${clock(player.end)}${frame === null ? "" : ` · frame ${frame}`}`;
    if (text !== this.time0) byId("time").textContent = this.time0 = text;
    const word = player.playing ? "Pause" : "Play";
    if (byId("play").getAttribute("aria-label") !== word) {
      byId("play").setAttribute("aria-label", word);
      byId("play").textContent = player.playing ? "❚❚" : "▶";
    }
  }

  faster(way) {
    const at = SPEEDS.indexOf(Number(byId("speed").value)) + way;
    if (!(at in SPEEDS)) return;
    byId("speed").value = SPEEDS[at];
    this.app.player.speed(SPEEDS[at]);
    this.app.toast(`Speed ${SPEEDS[at]}×`);
  }

  toggleSnap() {
    this.app.snaps = byId("snap").checked = !this.app.snaps;
    this.app.toast(this.app.snaps ? "Times snap to frames." : "Times are free.");
  }

  draw() {
    const { entry, state } = this.app;
    byId("state").value = entry.state;
    const names = [...new Set([...state.subsets, "training", "validation", entry.subset])];
    byId("subset").replaceChildren(...names.map((name) => new Option(name, name)), new Option("new…", "\n"));
    byId("subset").value = entry.subset;
    this.steps();
    byId("mark-in").classList.toggle("on", this.app.mark !== null);
    this.#drafts();
    this.#chosen();
    this.#rows();
    this.time();
  }

  steps() {
    byId("undo").disabled = !this.app.entry.can_undo;
    byId("redo").disabled = !this.app.entry.can_redo;
  }

  #drafts() {
    const { entry, threshold } = this.app;
    const shown = this.app.drafts().length;
    if (this.best?.id !== entry.id) this.best = { id: entry.id, score: 0.01 };
    this.best.score = Math.max(this.best.score, threshold, ...entry.drafts.map((one) => one.score));
    byId("threshold").max = this.best.score * 1.02; // the slider's end hides all
    byId("threshold").value = threshold;
    byId("draft-tools").hidden = !entry.drafts.length;
    byId("limit").value = `${figure(threshold)}: ${shown} of ${entry.drafts.length}`;
    byId("accept-all").disabled = !shown;
    byId("reject-all").disabled = shown === entry.drafts.length;
  }

  // The editor stands in the page once and is filled anew, so that what is being typed stays.
  #edit() {
    const { app } = this;
    const box = byId("editor");
    const field = (name) => {
      const label = make("label", "pick", name);
      const input = make("input", "stamp");
      Object.assign(input, { type: "text", inputMode: "decimal", autocomplete: "off" });
      input.setAttribute("aria-label", `${name} of the action, as seconds or minutes:seconds`);
      input.addEventListener("change", () => this.#typed(false));
      input.addEventListener("keydown", (event) => this.#field(event));
      label.append(input);
      return [label, input];
    };
    const button = (text, key, act) => {
      const node = make("button", "", text);
      node.type = "button";
      node.append(" ", make("kbd", "", key));
      node.addEventListener("click", act);
      return node;
    };
    this.parts = { hint: make("p", "muted"), name: make("button", "key big"), facts: make("span", "muted") };
    this.parts.name.type = "button";
    this.parts.name.title = "Another class (G)";
    this.parts.name.addEventListener("click", () => app.pickClass());
    const [start, end] = [field("Start"), field("End")];
    Object.assign(this.parts, { start: start[1], end: end[1], first: make("div", "line"), times: make("div", "line") });
    this.parts.action = make("div", "line buttons");
    this.parts.action.append(button("Split", "S", () => app.split()), button("Merge", "M", () => app.merge()), button("Delete", "Del", () => app.remove()));
    this.parts.draft = make("div", "line buttons");
    this.parts.draft.append(button("Accept", "A", () => app.review.accept()), button("Correct", "C", () => app.review.correct()), button("Reject", "X", () => app.review.reject()));
    this.parts.first.append(this.parts.name, this.parts.facts);
    this.parts.times.append(start[0], end[0]);
    // One time may be beyond the other until both are typed; whoever leaves them so is told, and gets back what was there.
    this.parts.times.addEventListener("focusout", (event) => {
      if (!this.parts.times.querySelector(".wrong") || this.parts.times.contains(event.relatedTarget)) return;
      this.#refuse();
      this.parts.shown = null;
      this.#chosen();
    });
    box.append(this.parts.hint, this.parts.first, this.parts.times, this.parts.action, this.parts.draft);
  }

  #chosen() {
    const { app, parts } = this;
    const { one, kind } = app.chosen;
    for (const name of ["first", "times"]) parts[name].hidden = !one;
    parts.action.hidden = kind !== "action";
    parts.draft.hidden = kind !== "draft";
    parts.hint.hidden = Boolean(one);
    const mistake = app.timeline.mistakes?.list.find((other) => other.id === app.selected);
    parts.hint.textContent = app.mark === null
      ? mistake ? said(mistake, app.timeline.mistakes.run) : "Press I where an action starts and O where it ends, or choose one in the timeline."
      : `An action${app.label ? ` (${app.label})` : ""} starts at ${clock(app.mark, 3)}. Press O where it ends.`;
    if (!one) return;
    parts.name.textContent = one.label;
    parts.name.style.setProperty("--colour", app.colour(one.label));
    parts.facts.textContent = `${(one.end - one.start).toFixed(2)} s${kind === "draft" ? ` · draft, score ${figure(one.score)} · ${one.source}` : ""}`;
    for (const name of ["start", "end"]) {
      const typing = document.activeElement === parts[name] || parts[name].classList.contains("wrong");
      if (typing && parts.shown === one.id) continue;
      parts[name].value = clock(one[name], 3);
      parts[name].classList.remove("wrong");
    }
    parts.shown = one.id;
  }

  #refuse() {
    const { player } = this.app;
    this.app.toast(`A time is seconds (75.2) or minutes (1:15.2), from ${clock(player.start)} to ${clock(player.end)}; the end comes after the start.`);
  }

  // Takes the times as typed, if they can be; `whole`: the user has typed both.
  #typed(whole = true) {
    const { app, parts } = this;
    const { one } = app.chosen;
    if (!one) return false;
    const [start, end] = [parseTime(parts.start.value), parseTime(parts.end.value)];
    const inside = (time) => time !== null && time >= app.player.start - 5e-4 && time <= app.player.end + 5e-4;
    // What was shown with three digits and not typed over keeps its exact value.
    const exact = (name, time) => (time === null || clock(one[name], 3) === clock(time, 3) ? one[name] : app.snapped(time));
    const [from, to] = [exact("start", start), exact("end", end)];
    const fine = inside(start) && inside(end) && from < to;
    parts.start.classList.toggle("wrong", !fine && (!inside(start) || document.activeElement !== parts.end));
    parts.end.classList.toggle("wrong", !fine && (!inside(end) || document.activeElement === parts.end));
    if (!fine) {
      if (whole) this.#refuse();
      return false;
    }
    if (from !== one.start || to !== one.end) app.placed(one.id, from, to);
    return true;
  }

  #field(event) {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") this.parts.shown = null;
    else if (!this.#typed()) return;
    const last = this.app.chosen.one;
    event.target.blur();
    if (event.key === "Enter" && this.correcting && this.app.drafts().length) this.app.review.next(last);
    this.correcting = false;
    this.#chosen();
  }

  editTimes(correcting) {
    if (!this.app.chosen.one) return this.app.toast("Choose an action first.");
    this.correcting = correcting;
    this.parts.start.focus();
    return this.parts.start.select();
  }

  #rows() {
    const { app } = this;
    const of = [app.entry, app.threshold, app.state];
    if (!this.rowsOf || of.some((one, i) => one !== this.rowsOf[i])) this.#fillRows();
    this.rowsOf = of;
    const box = byId("rows");
    const now = app.selected === null ? undefined : this.rowOf.get(app.selected);
    for (const row of box.querySelectorAll(".now")) {
      row.classList.remove("now");
      row.removeAttribute("aria-current");
    }
    if (!now) return;
    now.classList.add("now");
    now.setAttribute("aria-current", "true");
    const head = box.querySelector("thead").offsetHeight;
    if (now.offsetTop - head < box.scrollTop) box.scrollTop = now.offsetTop - head;
    else if (now.offsetTop + now.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = now.offsetTop + now.offsetHeight - box.clientHeight;
  }

  #fillRows() {
    const { app } = this;
    this.rowOf = new Map();
    const actions = app.entry.segments.map((one) => ({ one, draft: false }));
    const all = [...actions, ...app.drafts().map((one) => ({ one, draft: true }))].sort((a, b) => a.one.start - b.one.start);
    const body = byId("rows").querySelector("tbody");
    body.replaceChildren(...all.map(({ one, draft }) => {
      const row = make("tr", draft ? "draft" : "");
      row.dataset.id = one.id;
      this.rowOf.set(one.id, row);
      row.style.setProperty("--colour", app.colour(one.label));
      const name = make("td", "text");
      name.append(make("span", "key", one.label));
      row.append(make("td", "number", clock(one.start)), make("td", "number", clock(one.end)), name, make("td", "number", draft ? figure(one.score) : ""));
      return row;
    }));
    const none = byId("rows").querySelector(".nothing");
    none.hidden = all.length > 0;
    none.textContent = app.entry.drafts.length ? "No draft scores that much: lower the threshold." : "No action yet.";
  }
}
