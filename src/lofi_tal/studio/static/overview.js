// The whole video in one strip, with the part that the timeline shows; drag it to move there.
import { clamp, make } from "/static/shared.js";

const HEIGHT = 26;

export class Overview {
  constructor(timeline) {
    this.timeline = timeline;
    this.node = make("div", "overview");
    this.canvas = make("canvas");
    this.window = make("div", "window");
    this.head = make("div", "head");
    this.node.append(this.canvas, this.window, this.head);
    this.node.setAttribute("aria-hidden", "true");
    const move = (event) => {
      const box = this.node.getBoundingClientRect();
      const { start, end, span } = timeline;
      const at = start + ((event.clientX - box.left) / box.width) * (end - start);
      timeline.look(at - span / 2, at + span / 2);
    };
    this.node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.node.setPointerCapture(event.pointerId);
      move(event);
    });
    this.node.addEventListener("pointermove", (event) => { if (this.node.hasPointerCapture(event.pointerId)) move(event); });
    this.node.addEventListener("dblclick", () => timeline.all());
  }

  share(time) {
    const { start, end } = this.timeline;
    return clamp((time - start) / (end - start), 0, 1);
  }

  paint() {
    const { lanes, from, to } = this.timeline;
    const width = this.node.clientWidth;
    const scale = devicePixelRatio || 1;
    Object.assign(this.canvas, { width: Math.max(1, width * scale), height: HEIGHT * scale });
    const brush = this.canvas.getContext("2d");
    const look = getComputedStyle(this.node);
    brush.scale(scale, scale);
    const row = Math.max(1, Math.min(6, (HEIGHT - 4) / Math.max(1, lanes.length)));
    lanes.forEach((lane, i) => {
      const name = /^var\((--\w+)\)$/.exec(lane.colour);
      brush.fillStyle = name ? look.getPropertyValue(name[1]).trim() : lane.colour;
      for (const { one, kind } of lane.bars) {
        brush.globalAlpha = kind === "action" ? 1 : 0.45;
        const left = this.share(one.start) * width;
        brush.fillRect(left, 2 + (i * row) % (HEIGHT - 4), Math.max(1.5, this.share(one.end) * width - left), Math.max(1, row - 1));
      }
    });
    this.window.style.left = `${100 * this.share(from)}%`;
    this.window.style.width = `${Math.max(0.4, 100 * (this.share(to) - this.share(from)))}%`;
  }

  paintTime() { this.head.style.left = `${100 * this.share(this.timeline.app.player.now)}%`; }
}
