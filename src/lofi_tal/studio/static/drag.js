// What the pointer does on the timeline: it moves the playhead, or an edge, or a whole action. Escape takes a drag back.
import { clamp, clock } from "/static/shared.js";

const EDGE = 7; // pixels from an end that take hold of it
const STILL = 4; // pixels that a click may move

export class Drag {
  constructor(timeline) {
    this.timeline = timeline;
    this.active = null;
    this.tip = document.getElementById("tip");
    const { root, rulerRow, tracks } = timeline;
    for (const node of [rulerRow, tracks]) node.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    root.addEventListener("pointerup", (event) => this.#up(event));
    root.addEventListener("pointercancel", () => this.cancel());
    root.addEventListener("pointerleave", () => { if (!this.active) this.tip.hidden = true; });
    root.addEventListener("dblclick", (event) => {
      const bar = event.target.closest(".segment")?.bar;
      if (bar) timeline.app.player.play(bar.one);
    });
  }

  #grip(node, event) {
    const box = node.getBoundingClientRect();
    const edge = Math.min(EDGE, box.width / 3);
    if (event.clientX - box.left <= edge) return "start";
    return box.right - event.clientX <= edge ? "end" : "whole";
  }

  #down(event) {
    if (!event.isPrimary || event.button !== 0 || event.target.closest(".names, .corner")) return;
    const { timeline } = this;
    const node = event.target.closest(".segment");
    timeline.root.setPointerCapture(event.pointerId);
    if (!node) {
      this.active = { grip: "time" };
      timeline.app.seek(timeline.timeOf(event));
      return;
    }
    const { one, kind } = node.bar;
    const grip = kind === "mistake" ? "none" : this.#grip(node, event);
    this.active = { grip, one, node, from: event.clientX, moved: false, start: one.start, end: one.end };
    timeline.app.select(one.id, kind, false);
    event.preventDefault();
  }

  #move(event) {
    const { timeline, active } = this;
    if (!active) return this.#hover(event);
    if (active.grip === "time") return timeline.app.seek(timeline.timeOf(event));
    if (active.grip === "none") return undefined;
    if (!active.moved && Math.abs(event.clientX - active.from) < STILL) return undefined;
    active.moved = true;
    const way = ((event.clientX - active.from) / timeline.width) * timeline.span;
    const { start, end } = this.#placed(active, way);
    [active.start, active.end] = [start, end];
    active.node.style.transform = active.node.style.transform.replace(/\(.*?px/, `(${timeline.x(start)}px`);
    active.node.style.width = `${Math.max(3, timeline.x(end) - timeline.x(start))}px`;
    timeline.app.seek(active.grip === "end" ? end : start);
    return this.#tell(event, { ...active.one, start, end });
  }

  #placed({ grip, one }, way) {
    const { start: low, end: high, app } = this.timeline;
    const least = app.player.fps ? 1 / app.player.fps : 0.04;
    if (grip === "start") return { start: app.snapped(clamp(one.start + way, low, one.end - least)), end: one.end };
    if (grip === "end") return { start: one.start, end: app.snapped(clamp(one.end + way, one.start + least, high)) };
    const length = one.end - one.start;
    const start = clamp(app.snapped(clamp(one.start + way, low, high - length)), low, high - length);
    return { start, end: app.snapped(start + length) };
  }

  #up(event) {
    const { timeline, active } = this;
    this.active = null;
    this.tip.hidden = true;
    if (!active || active.grip === "time") return;
    if (active.moved && active.end > active.start) timeline.app.placed(active.one.id, active.start, active.end, active.grip);
    else if (active.moved) timeline.paint();
    else timeline.app.seek(event.target && active.grip === "end" ? active.one.end : active.grip === "start" ? active.one.start : timeline.timeOf(event));
  }

  cancel() {
    if (!this.active) return false;
    this.active = null;
    this.tip.hidden = true;
    this.timeline.paint();
    return true;
  }

  #hover(event) {
    const node = event.target.closest?.(".segment");
    if (!node || event.pointerType === "touch") {
      this.tip.hidden = true;
      return;
    }
    const grip = node.bar.kind === "mistake" ? "none" : this.#grip(node, event);
    node.style.cursor = grip === "whole" || grip === "none" ? "pointer" : "ew-resize";
    this.#tell(event, node.bar.one);
  }

  #tell(event, one) {
    const lines = [one.label, `${clock(one.start, 3)} – ${clock(one.end, 3)} (${(one.end - one.start).toFixed(2)} s)`];
    if (one.kind) lines.push(one.kind);
    if (one.source) lines.push(`draft of ${one.source}, score ${one.score.toFixed(3)}`);
    this.tip.replaceChildren(...lines.map((line, i) => Object.assign(document.createElement(i ? "span" : "strong"), { textContent: line })));
    this.tip.hidden = false;
    const box = this.tip.getBoundingClientRect();
    this.tip.style.left = `${clamp(event.clientX + 14, 4, innerWidth - box.width - 4)}px`;
    const below = event.clientY + 18;
    this.tip.style.top = `${below + box.height > innerHeight ? event.clientY - box.height - 10 : below}px`;
  }
}
