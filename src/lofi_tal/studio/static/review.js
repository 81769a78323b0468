// Drafts are looked through one after the other: accepted, corrected or rejected by one key each.
import { counted } from "/static/shared.js";
import * as edits from "./edits.js";

export class Review {
  constructor(app) { this.app = app; }

  // The draft to work on: the chosen one, or else the next is chosen.
  #draft() {
    const { one, kind } = this.app.chosen;
    if (kind === "draft") return one;
    this.next();
    return null;
  }

  next(after = this.app.chosen.one) {
    const { app } = this;
    const drafts = app.drafts().sort(edits.byStart);
    const from = after || { start: app.player.now - 1e-9, end: -1 };
    const later = (one) => one.id !== from.id && (one.start > from.start || (one.start === from.start && one.end > from.end));
    const next = drafts.find(later) || drafts[0];
    if (next) app.select(next.id, "draft");
    else app.toast(app.entry.drafts.length ? "No draft scores that much." : "No draft is left in this video.");
  }

  #decide(change, word) {
    const one = this.#draft();
    if (!one) return;
    this.app.edit(`${word} ${one.label}`, change(this.app.entry, [one.id]));
    this.next(one);
  }

  accept() { this.#decide(edits.accept, "accept"); }
  reject() { this.#decide(edits.reject, "reject"); }

  acceptAll() {
    const ids = this.app.drafts().map((one) => one.id);
    if (ids.length) this.app.edit(`accept ${counted(ids.length, "draft")}`, edits.accept(this.app.entry, ids));
    else this.app.toast("No draft scores that much.");
  }

  rejectHidden() {
    const { entry, threshold } = this.app;
    const ids = entry.drafts.filter((one) => one.score < threshold).map((one) => one.id);
    if (ids.length) this.app.edit(`reject ${counted(ids.length, "draft")}`, edits.reject(entry, ids));
  }

  // Takes the draft as an action and puts the cursor into its start time.
  correct() {
    const one = this.#draft();
    if (!one) return;
    this.app.edit(`accept ${one.label} to correct it`, edits.accept(this.app.entry, [one.id]));
    this.app.panel.editTimes(true);
  }
}
