// Train and look: jobs with their progress, runs side by side, and what a run got wrong, video by video.
import { clock, make } from "/static/shared.js";
import { get, inOrder, post, turns } from "./api.js";
import { button, choice, command, field, input, notes, previewing, show, submit, tick } from "./forms.js";

const KINDS = {
  missed: "Missed: an action that was not found",
  doubled: "Doubled: an action that another detection has found",
  mislabelled: "Mislabelled: the right time, another class",
  misplaced: "Misplaced: the right class, a poor place",
  false: "False: nothing is there",
};
const percent = (share) => (typeof share === "number" ? `${(100 * share).toFixed(1)} %` : "–");
const size = (bytes) => (bytes ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : "–");
const spell = (value, unit) => (unit === "mAP" ? percent(value) : unit === "s" ? (value ? clock(value, 0) : "–") : unit === "bytes" ? size(value) : value === null || value === undefined ? "–" : String(value));
const TITLES = { train: "Training", detect: "Finding drafts", compare: "Comparison" };
const drawn = (job) => `${job.id} ${job.state} ${job.resumable}`;
const best = (run) => run.map?.lofi?.fused ?? Object.values(run.map || {})[0]?.fused ?? null;

export class Training {
  constructor(app) {
    this.app = app;
    this.tab = "jobs";
    this.log = { id: null, next: 0, timer: null };
    this.picked = new Set();
    Object.assign(this, { tabTurn: turns(), detailTurn: turns(), known: [] });
    this.ask = inOrder(async () => (this.known = await get("/api/jobs")));
    document.getElementById("runs").addEventListener("close", () => { clearTimeout(this.log.timer); this.log.id = null; });
  }

  get dialog() { return document.getElementById("runs"); }

  // Opens the dialog, at the log of a job if one is given.
  open(job = null) {
    document.getElementById("dialog").close();
    this.bar = make("div", "tabs");
    this.bar.setAttribute("role", "tablist");
    this.body = make("div", "tab-body");
    for (const [name, text] of [["train", "Train"], ["jobs", "Jobs"], ["runs", "Runs and errors"]]) {
      const tab = button(text, () => this.show(name), "tab");
      tab.setAttribute("role", "tab");
      tab.dataset.tab = name;
      this.bar.append(tab);
    }
    show("runs", "Train and look", this.bar, this.body);
    return this.show(job ? "jobs" : this.tab, job);
  }

  show(tab, detail = null) {
    this.tab = tab;
    clearTimeout(this.log.timer);
    for (const node of this.bar.children) node.setAttribute("aria-selected", String(node.dataset.tab === tab));
    const current = this.tabTurn(); // an answer for another tab may come later than that for this one
    const work = { train: () => this.#train(current), jobs: () => this.#jobs(current, detail), runs: () => this.#runs(current, detail) }[tab];
    return work().catch((problem) => { if (current()) this.body.replaceChildren(make("p", "notice", problem.message)); });
  }

  async #train(current) {
    const runs = await get("/api/runs");
    if (!current()) return;
    const taken = new Set(runs.map((run) => run.name.split("/").at(-1)));
    let number = taken.size + 1;
    while (taken.has(`run-${number}`)) number += 1;
    const name = input("text", `run-${number}`, { maxLength: 80, pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", required: true, spellcheck: false });
    const recipe = input("text", "", { placeholder: "a new one, proposed for these labels", spellcheck: false });
    const known = make("datalist");
    known.id = "known-recipes";
    known.append(...runs.map((run) => new Option(run.name, run.name)));
    recipe.setAttribute("list", known.id);
    const starts = runs.filter((run) => run.finished && run.model).map((run) => [run.name, run.name]);
    const from = choice([["", "new weights"], ...starts], "");
    const [anyway, unchecked] = tick("train even if some videos cannot be read");
    const [negatives, background] = tick("learn from checked videos without actions, too: there is nothing to find");
    const budget = input("text", "", { placeholder: "such as 30min or 2h", spellcheck: false });
    const words = command(this.app.state.commands?.run || "");
    const found = make("div", "said");
    const body = () => ({ kind: "train", output: name.value, recipe: recipe.value || null, options: { ...(from.value ? { from: from.value } : {}), ...(budget.value ? { budget: budget.value } : {}), ...(unchecked.checked ? { unchecked: true } : {}), ...(background.checked ? { settings: { "data.background": true } } : {}) } });
    const preview = previewing(() => post("/api/jobs", { ...body(), preview: true }), (answer) => {
      words.set(answer.command);
      found.replaceChildren(notes(answer.notes || []));
    }, (problem) => found.replaceChildren(make("p", "notice", problem.message)));
    const form = submit("Start training", async () => {
      await this.app.saver.settled();
      const job = await post("/api/jobs", body());
      await this.show("jobs", job.id);
      this.app.toast((job.notes || []).join(" ") || "The training has begun.");
    });
    for (const node of [name, recipe, from, budget, background, unchecked]) node.addEventListener("change", preview);
    form.with(field("Name of the run", name), field("Recipe", recipe, "Optional: the recipe of a run, or a .yaml file beside the labels."), known, field("Start from", from, "The weights of a finished run: stage 1 is skipped. Without a recipe, that of the run is taken."), field("Time budget", budget, "Optional: the most time that the training may take."), negatives, anyway, words, found);
    this.body.replaceChildren(make("p", "", "Checks the videos, proposes a recipe and runs it, as a process of its own: you can close this page, or stop the studio."), form);
    await preview();
  }

  async #jobs(current, chosen) {
    const jobs = await this.ask();
    if (!current()) return;
    if (!jobs.length) {
      this.body.replaceChildren(make("p", "muted", "Nothing was started yet: train a model, or find drafts with one."));
      return;
    }
    this.list = make("div", "jobs");
    this.text = make("pre", "log");
    this.text.tabIndex = 0;
    this.text.setAttribute("aria-label", "Output of the job");
    this.command = command("");
    this.body.replaceChildren(this.list, this.command, this.text);
    this.#follow(chosen || this.log.id || jobs[0].id);
  }

  // A row stays while its job's state does, so that news of its progress takes no click and no focus away.
  #drawJobs() {
    const old = new Map([...this.list.children].map((row) => [row.drawn, row]));
    const rows = this.known.map((job) => old.get(drawn(job)) || this.#job(job));
    if (rows.length !== old.size || rows.some((row, i) => row !== this.list.children[i])) this.list.replaceChildren(...rows);
    rows.forEach((row, i) => this.#news(row, this.known[i]));
  }

  #news(row, job) {
    row.querySelector(".name").setAttribute("aria-current", String(job.id === this.log.id));
    row.querySelector(".text").textContent = job.text || "";
    const bar = row.querySelector("progress");
    if (bar && typeof job.share === "number") bar.value = job.share;
  }

  #job(job) {
    const row = make("div", `job ${job.state}`);
    row.drawn = drawn(job);
    const name = button(job.output || TITLES[job.kind] || job.kind, () => this.#follow(job.id), "name");
    row.append(name, make("span", `state ${job.state}`, job.state));
    if (job.state === "running") {
      const bar = make("progress");
      bar.setAttribute("aria-label", "Progress");
      row.append(bar);
      row.append(button("Stop", async () => { await post(`/api/jobs/${encodeURIComponent(job.id)}/stop`).catch((problem) => this.app.toast(problem.message)); await this.heard(job.id); }));
    }
    if (job.resumable) row.append(button("Resume", () => this.#resume(job)));
    if (job.state === "done" && job.kind === "train") row.append(button("See the errors", () => this.show("runs", job.output)));
    if (job.state === "done" && job.kind === "compare") {
      const page = make("a", "", "Open the page");
      Object.assign(page, { href: `/api/jobs/${encodeURIComponent(job.id)}/page`, target: "_blank", rel: "noopener" });
      row.append(page);
    }
    row.append(make("p", "muted text"));
    return row;
  }

  async #resume({ output }) {
    try {
      const job = await post("/api/jobs", { kind: "train", output, recipe: null, options: { resume: true, unchecked: true } });
      await this.show("jobs", job.id);
    } catch (problem) { this.app.toast(problem.message); }
  }

  #follow(id) {
    clearTimeout(this.log.timer);
    this.log = { id, next: 0, timer: null };
    this.text.textContent = "";
    this.command.set(this.known.find((job) => job.id === id)?.command || "");
    this.#drawJobs();
    this.#more(id);
  }

  // The rest of the log, as the output grows.
  async #more(id) {
    if (this.log.id !== id || !this.dialog.open || this.tab !== "jobs") return;
    try {
      const { text, next } = await get(`/api/jobs/${encodeURIComponent(id)}/log?from=${this.log.next}`);
      if (this.log.id !== id) return;
      if (text) {
        const end = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 20;
        this.text.append(text);
        if (end) this.text.scrollTop = this.text.scrollHeight;
      }
      this.log.next = next;
    } catch { /* the server is away; the next look tries again */ }
    clearTimeout(this.log.timer);
    this.log.timer = setTimeout(() => this.#more(id), 1000);
  }

  // A job has news.
  async heard(id) {
    const jobs = await this.ask().catch(() => null);
    const job = jobs?.find((one) => one.id === id);
    if (!job) return;
    if (this.dialog.open && this.tab === "jobs") {
      if (this.list?.isConnected) this.#drawJobs();
      else await this.show("jobs", id);
    } else if (job.state !== "running" && this.told === `${id} running`) this.app.toast(`${TITLES[job.kind] || job.kind}: ${job.state}.`);
    this.told = `${id} ${job.state}`;
    if (job.state === "done" && document.getElementById("sort").value.startsWith("sure:")) this.app.list.order();
    const running = jobs.filter((one) => one.state === "running").length;
    document.getElementById("open-runs").textContent = running ? `Train and look (${running} at work)` : "Train and look";
  }

  // The runs, and below them the errors of one, or those that are ticked side by side.
  async #runs(current, wrong = null) {
    const runs = await get("/api/runs");
    if (!current()) return;
    if (!runs.length) {
      this.body.replaceChildren(make("p", "muted", "There is no run yet."));
      return;
    }
    const table = make("table", "runs");
    table.append(headRow(["Compare", "Run", "mAP", "Time", "Memory", ""], [2, 3, 4]));
    const rows = table.appendChild(make("tbody"));
    for (const run of runs) {
      const pick = input("checkbox");
      pick.checked = this.picked.has(run.name);
      pick.setAttribute("aria-label", `Compare ${run.name}`);
      pick.addEventListener("change", () => { this.picked[pick.checked ? "add" : "delete"](run.name); this.#compare(); });
      const row = make("tr");
      const cells = [pick, run.name + (run.finished ? "" : " (not finished)"), percent(best(run)), run.seconds ? clock(run.seconds, 0) : "–", size(run.peak_memory_bytes), button("Errors", () => this.#mistakes(run.name))];
      row.append(...cells.map((cell, i) => { const td = make("td", [2, 3, 4].includes(i) ? "number" : i === 1 ? "text" : ""); td.append(cell); return td; }));
      rows.append(row);
    }
    const box = make("div", "scroll card");
    box.append(table);
    this.detail = make("div", "detail");
    this.body.replaceChildren(box, this.detail);
    await (wrong ? this.#mistakes(wrong) : this.#compare());
  }

  async #compare() {
    const current = this.detailTurn();
    if (this.picked.size < 2) {
      this.detail.replaceChildren(make("p", "muted", "Tick two runs or more to see them side by side, or open the errors of one."));
      return;
    }
    try {
      const { runs, rows, settings } = await get(`/api/compare?runs=${[...this.picked].map(encodeURIComponent).join(",")}`);
      if (!current()) return;
      const table = make("table");
      table.append(headRow(["", ...runs], runs.map((_, i) => i + 1)));
      const body = table.appendChild(make("tbody"));
      const add = (name, values, unit) => {
        const row = make("tr");
        row.append(make("th", "", name), ...values.map((value) => make("td", "number", spell(value, unit))));
        body.append(row);
      };
      for (const row of rows) add(row.unit === "mAP" ? `mAP, ${row.name}` : row.name, row.values, row.unit);
      for (const row of settings) add(row.name, row.values, "");
      const box = make("div", "scroll card");
      box.append(table);
      const full = button("Compare in full", async () => {
        try {
          await this.app.saver.settled();
          await this.show("jobs", (await post("/api/jobs", { kind: "compare", runs })).id);
        } catch (problem) { this.app.toast(problem.message); }
      });
      const hint = make("p", "muted", "As each run was evaluated. In full: by the labels as they are now, with intervals, classes, errors, and what was fixed and broken by video.");
      this.detail.replaceChildren(make("h3", "", "Side by side"), box, hint, full);
    } catch (problem) { if (current()) this.detail.replaceChildren(make("p", "notice", problem.message)); }
  }

  async #mistakes(name) {
    const current = this.detailTurn();
    let found;
    try { found = await get(`/api/runs/${name.split("/").map(encodeURIComponent).join("/")}/mistakes`); } catch (problem) {
      if (current()) this.detail.replaceChildren(make("p", "notice", problem.message));
      return;
    }
    if (!current()) return;
    const kind = choice([["", "every kind"], ...Object.keys(KINDS).map((key) => [key, `${key} (${found.counts?.[key] ?? "?"})`])], "");
    const order = choice([["video", "video by video"], ["score", "highest scores first"]], "video");
    const box = make("div", "scroll mistakes card");
    const draw = () => box.replaceChildren(this.#table(name, found, kind.value, order.value));
    for (const node of [kind, order]) node.addEventListener("change", draw);
    draw();
    const hint = make("p", "muted", Object.values(KINDS).join(" · "));
    this.detail.replaceChildren(make("h3", "", `Errors of ${name}`), field("Show", kind), field("Order", order), hint, box);
    this.detail.scrollIntoView({ block: "start" });
  }

  #table(run, found, kind, order) {
    const table = make("table");
    table.append(headRow(["Video", "Kind", "Class", "From", "To", "Score", "Label"], [3, 4, 5]));
    const body = table.appendChild(make("tbody"));
    const all = found.videos.flatMap((video) => mistakesOf(video).map((one) => [video.id, one])).filter(([, one]) => !kind || one.kind === kind);
    if (order === "score") all.sort(([, a], [, b]) => (b.score ?? -1) - (a.score ?? -1)); // what was missed has none
    for (const [id, one] of all) {
      const row = make("tr", "has-case");
      const go = button(id, () => this.#jump(run, found, id, one), "link");
      const cell = make("td", "text");
      cell.append(go);
      const truth = one.truth ? `${one.truth.label}, ${clock(one.truth.start)} – ${clock(one.truth.end)}` : "";
      const figures = [clock(one.start), clock(one.end), one.score === null ? "" : one.score.toFixed(3)].map((text) => make("td", "number", text));
      row.append(cell, make("td", "", one.kind), make("td", "text", one.label), ...figures, make("td", "text", truth));
      row.addEventListener("click", (event) => { if (event.target !== go) go.click(); });
      body.append(row);
    }
    if (!body.children.length) body.appendChild(make("tr")).append(Object.assign(make("td", "muted", "No error of this kind."), { colSpan: 7 }));
    return table;
  }

  // Goes to the place of a mistake; the timeline keeps the run's mistakes as a lane until another run is chosen.
  async #jump(run, found, id, one) {
    const byVideo = new Map(found.videos.map((video) => [video.id, { run, list: mistakesOf(video) }]));
    this.app.run = { of: (video) => byVideo.get(video) ?? { run, list: [] } };
    this.dialog.close();
    await this.app.open(id);
    this.app.select(one.id, "mistake");
  }
}

function headRow(names, numbers) {
  const head = make("thead");
  const row = head.appendChild(make("tr"));
  row.append(...names.map((name, i) => make("th", numbers.includes(i) ? "number" : "", name)));
  return head;
}

function mistakesOf(video) {
  return Object.keys(KINDS).flatMap((kind) => (video[kind] || []).map((one, i) => ({ ...one, kind, id: `mistake ${kind} ${i}` }))).sort((a, b) => a.start - b.start);
}
