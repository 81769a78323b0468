// Changes go to the server one after the other. What could not be sent is kept, in the browser too, and sent again.
import * as api from "./api.js";

const WAIT = 1500; // milliseconds until a server that is gone is asked again

export class Saver {
  // `told(state, why)`: saved, saving or unsaved; `answered(id, entry, last)`; `refused(change, problem)`: a conflict or an error.
  constructor(told, answered, refused) {
    Object.assign(this, { told, answered, refused, queue: [], busy: false, timer: null, place: "", idle: [], failed: false });
  }

  // Where kept changes lie, and those of an earlier page.
  open(place) {
    this.place = `lofi-studio ${place}`;
    let kept = [];
    try { kept = JSON.parse(localStorage.getItem(this.place) || "[]"); } catch { /* nothing kept that can be read */ }
    this.queue.unshift(...kept);
    if (kept.length) this.#work();
    return kept;
  }

  pending(id) { return this.queue.filter((change) => change.id === id); }

  add(id, entry, did) {
    const { revision, state, subset, segments, drafts } = entry;
    this.queue.push({ id, revision, body: { state, subset, segments, drafts, did } });
    this.#work();
  }

  // When everything is sent.
  settled() { return this.queue.length ? new Promise((done) => this.idle.push(done)) : Promise.resolve(); }

  again() {
    clearTimeout(this.timer);
    this.timer = null;
    this.#work();
  }

  #keep() {
    if (!this.place) return;
    try {
      if (this.queue.length) localStorage.setItem(this.place, JSON.stringify(this.queue));
      else localStorage.removeItem(this.place);
    } catch { /* a full or forbidden store: the queue in memory stays */ }
  }

  async #work() {
    if (this.busy || this.timer) return;
    this.busy = true;
    while (this.queue.length) {
      if (!this.failed) this.told("saving");
      const change = this.queue[0];
      if (!(await this.#send(change))) break;
    }
    this.busy = false;
    if (!this.queue.length) {
      this.#keep();
      this.told("saved");
      for (const done of this.idle.splice(0)) done();
    }
  }

  // Sends one change; false ends the work for now.
  async #send(change) {
    try {
      const entry = await api.put(api.videoPath(change.id, "entry"), { revision: change.revision, ...change.body });
      this.failed = false;
      this.queue = this.queue.filter((other) => other !== change);
      for (const later of this.pending(change.id)) later.revision = entry.revision;
      this.answered(change.id, entry, !this.pending(change.id).length);
      return true;
    } catch (problem) {
      if (problem.gone || problem.status === 403 || problem.status >= 500) {
        this.failed = true;
        this.#keep();
        this.told("unsaved", problem.message);
        this.timer = setTimeout(() => this.again(), WAIT);
        return false;
      }
      this.failed = false;
      this.queue = this.queue.filter((other) => other.id !== change.id);
      this.refused(change, problem);
      return true;
    }
  }
}
