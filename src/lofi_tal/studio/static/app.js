// The state of the page and what can be done with it. Everything that changes labels goes through `edit`.
import { clamp, clock } from "/static/shared.js";
import * as api from "./api.js";
import * as edits from "./edits.js";

export class App {
  constructor(player) {
    Object.assign(this, { player, state: { classes: [], subsets: [], formats: {} }, entry: null, selected: null, mark: null });
    Object.assign(this, { label: null, threshold: 0, snaps: true, steps: Promise.resolve(), opening: 0, run: null, wanted: null });
    this.refresh = api.inOrder(() => this.#refresh());
  }

  // Set by main.js: list, timeline, panel, review, saver, toast(text), drawClasses().
  colour(label) {
    const known = this.state.classes.find((one) => one.name === label)?.colour;
    if (/^c\d$/.test(known || "")) return `var(--${known})`;
    return known && CSS.supports("color", known) ? known : "var(--muted)";
  }

  // Drafts that score at least the threshold.
  drafts() { return this.entry.drafts.filter((one) => one.score >= this.threshold); }

  async #refresh() {
    this.state = await api.get("/api/state");
    if (!this.state.classes.some((one) => one.name === this.label)) this.label = this.state.classes[0]?.name ?? null;
    this.list.subsets(this.state.subsets);
    this.drawClasses();
    if (this.entry) this.draw();
  }

  async open(id) {
    if (!id) return;
    const turn = (this.opening += 1);
    this.wanted = id;
    location.hash = `video=${encodeURIComponent(id)}`;
    const entry = await this.#fetch(id).catch((problem) => this.toast(problem.message));
    if (turn !== this.opening || !entry) return;
    this.player.open();
    Object.assign(this, { entry, selected: null, mark: null });
    this.#range(entry);
    this.player.seek(this.player.start);
    this.timeline.mistakes = this.run?.of(id) ?? null;
    this.timeline.all();
    this.list.choose(id);
    this.panel.opened();
    this.draw();
    await Promise.all([this.media(turn), this.#frames(turn)]);
  }

  // The entry as the server has it, with what waits to be sent on top of it.
  async #fetch(id) {
    const entry = await api.get(api.videoPath(id, "entry"));
    const last = this.saver.pending(id).at(-1);
    return last ? { ...entry, ...last.body } : entry;
  }

  #range(entry) {
    const last = Math.max(0, ...entry.segments.map((one) => one.end), ...entry.drafts.map((one) => one.end));
    const range = entry.clock || { start: 0, end: entry.duration || last || 1 };
    this.player.range(range.start, range.end, entry.fps);
  }

  async media(turn = this.opening) {
    const { id } = this.entry;
    try {
      const media = await api.get(api.videoPath(id, "media"));
      if (turn === this.opening) this.panel.media(media);
    } catch (problem) {
      if (turn === this.opening) this.panel.media({ state: "failed", problem: problem.message });
    }
  }

  async #frames(turn) {
    const frames = await api.frameTimes(this.entry.id).catch(() => new Float64Array());
    if (turn === this.opening) this.player.frames = frames;
    if (turn === this.opening) this.panel.time();
  }

  draw() {
    if (this.selected && !edits.find(this.entry, this.selected).one && !this.timeline.mistakes?.list.some((one) => one.id === this.selected)) this.selected = null;
    this.timeline.arrange();
    this.panel.draw();
    const { id, state, subset, segments, drafts } = this.entry;
    this.list.update(id, { state, subset, actions: segments.length, drafts: drafts.length });
  }

  edit(did, entry) {
    if (!entry) return;
    const state = entry.state === "new" && entry.segments.length ? "draft" : entry.state;
    this.entry = { ...entry, state, can_undo: true, can_redo: false };
    this.saver.add(entry.id, this.entry, did);
    this.draw();
  }

  answered(id, entry, last) {
    if (this.entry?.id !== id) {
      this.list.update(id, { state: entry.state, subset: entry.subset, actions: entry.segments.length, drafts: entry.drafts.length });
    } else if (last && !edits.same(entry, this.entry)) this.#take(entry);
    else {
      const { revision, can_undo, can_redo } = last ? entry : { ...this.entry, revision: entry.revision };
      Object.assign(this.entry, { revision, can_undo, can_redo });
      this.panel.steps();
    }
  }

  #take(entry) {
    const known = this.entry.clock;
    this.entry = entry;
    if (entry.segments.some((one) => !this.state.classes.some(({ name }) => name === one.label))) this.refresh().catch(() => {});
    if (!known && entry.clock) {
      this.#range(entry);
      this.timeline.all();
      if (!this.player.ready) this.media();
      if (!this.player.frames.length) this.#frames(this.opening);
    }
    this.draw();
  }

  // Somebody else changed this video: read it again, unless changes of ours are on the way (then the server answers them).
  async changed(id, revision) {
    if (this.entry?.id !== id || this.saver.pending(id).length) return undefined;
    if (revision !== undefined && revision <= this.entry.revision && this.entry.clock) return undefined;
    const before = this.entry.revision;
    const entry = await api.get(api.videoPath(id, "entry")).catch(() => null);
    if (!entry || this.entry?.id !== id || this.saver.pending(id).length) return undefined;
    return this.entry.revision === before ? this.#take(entry) : this.changed(id); // a change of ours was answered meanwhile
  }

  // Undo and redo one after the other, each after what waits to be saved.
  step(way) {
    this.steps = this.steps.then(async () => {
      await this.saver.settled();
      const { id, revision } = this.entry;
      try {
        const entry = await api.post(api.videoPath(id, way), { revision });
        if (entry.changed > 1) this.toast(`${way === "undo" ? "Undone" : "Done again"} in ${entry.changed} videos: it was one change.`);
        if (this.entry.id === id) this.#take(entry);
      } catch (problem) {
        if (problem.status === 409 && problem.answer.entry) this.#take(problem.answer.entry);
        this.toast(problem.message);
      }
    });
    return this.steps;
  }

  snapped(time) { return this.snaps ? this.player.snapped(time) : time; }
  get here() { return this.snaps ? this.player.snapped(this.player.now, true) : this.player.now; }
  get chosen() { return this.selected ? edits.find(this.entry, this.selected) : { one: null, kind: null }; }

  seek(time) { this.player.seek(this.snaps ? this.player.snapped(time) : time); }

  select(id, kind = "action", go = true) {
    this.selected = id;
    const one = this.chosen.one || this.timeline.mistakes?.list.find((other) => other.id === id);
    if (one && go) {
      this.player.pause();
      this.player.seek(one.start);
      this.timeline.reveal(one.start, one.end);
    }
    this.timeline.paint();
    this.panel.draw();
  }

  markIn() {
    this.mark = this.here;
    this.selected = null;
    this.timeline.paint();
    this.panel.draw();
  }

  markOut() {
    const end = this.here;
    if (this.mark === null) return this.toast("Press I where the action starts, then O where it ends.");
    const [from, to] = [Math.min(this.mark, end), Math.max(this.mark, end)];
    if (to <= from) return this.toast("The action has no length yet: move on, then press O.");
    if (this.label === null) return this.pickClass();
    this.mark = null;
    const id = edits.freshId();
    this.selected = id;
    return this.edit(`add ${this.label}`, edits.add(this.entry, from, to, this.label, id));
  }

  // The class of what is chosen, and of the next action. A draft with another class is corrected and accepted.
  setClass(label) {
    this.label = label;
    const { one, kind } = this.chosen;
    if (one && one.label !== label) {
      const entry = edits.change(this.entry, one.id, { label });
      this.edit(`class ${label}`, kind === "draft" ? edits.accept(entry, [one.id]) : entry);
      if (kind !== "draft") this.toast(`The chosen action is “${label}” now, no longer “${one.label}”.`);
    }
    this.drawClasses();
    this.panel.draw();
  }

  // New times for an action; for a draft too: it is corrected, and accepted.
  placed(id, start, end, grip = "times") {
    const { one, kind } = edits.find(this.entry, id);
    if (!one || !(end > start)) return this.draw();
    const [from, to] = [clamp(start, this.player.start, this.player.end), clamp(end, this.player.start, this.player.end)];
    const entry = edits.change(this.entry, id, { start: from, end: to });
    const did = `${grip === "whole" ? "move" : "times of"} ${one.label}, ${clock(from)} to ${clock(to)}`;
    return this.edit(did, kind === "draft" ? edits.accept(entry, [id]) : entry);
  }

  setEdge(edge) {
    const { one } = this.chosen;
    if (!one) return this.toast("Choose an action first.");
    const values = { start: one.start, end: one.end, [edge]: this.here };
    if (values.end <= values.start) return this.toast("An action ends after it starts.");
    return this.placed(one.id, values.start, values.end);
  }

  // Removes the chosen action, or rejects the chosen draft.
  remove() {
    const { one, kind } = this.chosen;
    if (!one) return this.toast("Choose an action first.");
    if (kind === "draft") return this.review.reject();
    this.selected = null;
    return this.edit(`delete ${one.label}`, edits.remove(this.entry, one.id));
  }

  split() {
    const at = this.here;
    const least = 0.5 / this.player.fps; // an action of less than half a frame is a slip
    const inside = (one) => one.start + least < at && at < one.end - least;
    const one = this.chosen.kind === "action" && inside(this.chosen.one) ? this.chosen.one : this.entry.segments.find(inside);
    if (!one) return this.toast("The playhead is in no action.");
    return this.edit(`split ${one.label}`, edits.split(this.entry, one.id, at));
  }

  merge() {
    const { one, kind } = this.chosen;
    if (kind !== "action") return this.toast("Choose the first of the two actions.");
    const entry = edits.merge(this.entry, one.id);
    return entry ? this.edit(`merge ${one.label}`, entry) : this.toast(`No later action has the class ${one.label}.`);
  }

  // The action or draft before or after the chosen one, or the playhead.
  beside(way) {
    const all = [...this.entry.segments, ...this.drafts()].sort(edits.byStart);
    const at = all.findIndex((one) => one.id === this.selected);
    const now = this.player.now;
    const next = at >= 0 ? all[at + way] : way > 0 ? all.find((one) => one.start >= now) : all.findLast((one) => one.start <= now);
    if (next) this.select(next.id);
  }

  checked() {
    if (this.mark !== null) return this.toast("An action has a start and no end: press O where it ends, or Escape to drop it.");
    this.edit("checked", { ...this.entry, state: "checked" });
    const next = this.list.unchecked();
    if (next) this.open(next);
    else this.toast("Every video shown is checked.");
    return undefined;
  }

  video(way) {
    const id = this.list.beside(way);
    if (id) this.open(id);
    else this.toast(way > 0 ? "This is the last video of the list." : "This is the first video of the list.");
  }
}
