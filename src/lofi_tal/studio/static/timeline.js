// The timeline: an overview of the whole video, and below it lanes of what lies in the part that is shown. Only bars
// that can be seen are in the page, so length of the video and number of actions do not slow it down.
import { clamp, clock, make, stack, tick } from "/static/shared.js";
import { Drag } from "./drag.js";
import { Overview } from "./overview.js";

const HEIGHT = { action: 20, draft: 16, mistake: 16 };
const GAP = 3;
const [SHORT, TWO_LINES] = [10, 36]; // letters of a name that fits in one line; pixels of two
const LEAST = 0.2; // seconds: the shortest part that can be shown

export class Timeline {
  // `app` has: entry, selected, mark, colour(label), player, and select(id), seek(time), placed(id, start, end).
  constructor(root, app) {
    Object.assign(this, { root, app, from: 0, to: 1, width: 1, lanes: [], bars: new Map(), mistakes: null, hides: false });
    this.ruler = make("div", "ruler");
    this.tracks = make("div", "tracks");
    this.names = make("div", "names");
    this.area = make("div", "area");
    this.head = make("div", "playhead");
    this.open = make("div", "open");
    this.open.hidden = true;
    this.rulerRow = make("div", "ruler-row");
    this.rulerRow.append(make("div", "corner"), this.ruler);
    this.tracks.append(this.names, this.area);
    this.over = make("div", "over");
    this.over.append(this.open, this.head);
    this.overview = new Overview(this);
    root.append(this.overview.node, this.rulerRow, this.tracks, this.over);
    this.drag = new Drag(this);
    new ResizeObserver(() => this.paint()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  get start() { return this.app.player.start; }
  get end() { return Math.max(this.app.player.end, this.start + LEAST); }
  get span() { return this.to - this.from; }
  x(time) { return ((time - this.from) / this.span) * this.width; }
  time(x) { return clamp(this.from + (x / this.width) * this.span, this.start, this.end); }
  timeOf(event) { return this.time(event.clientX - this.area.getBoundingClientRect().left); }

  // Shows the part from `from` to `to`, moved into the video and not shorter than can be seen.
  look(from, to) {
    const span = clamp(to - from, Math.min(LEAST, this.end - this.start), this.end - this.start);
    this.from = clamp(from, this.start, this.end - span);
    this.to = this.from + span;
    this.paint();
  }

  toggleMistakes() {
    this.hides = !this.hides;
    this.arrange();
  }

  all() { this.look(this.start, this.end); }

  zoom(factor, at = null) {
    const now = this.app.player.now;
    const centre = at ?? (now >= this.from && now <= this.to ? now : (this.from + this.to) / 2);
    const span = clamp(this.span * factor, LEAST, this.end - this.start);
    const share = (centre - this.from) / this.span;
    this.look(centre - share * span, centre - share * span + span);
  }

  // Moves as little as possible so that a time, or a span, is in sight.
  reveal(start, end = start) {
    if (start >= this.from && end <= this.to) return;
    const span = Math.max(this.span, (end - start) * 1.4);
    this.look((start + end) / 2 - span / 2, (start + end) / 2 + span / 2);
  }

  #wheel(event) {
    const zooms = event.ctrlKey || event.metaKey;
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    const scrolls = this.tracks.scrollHeight > this.tracks.clientHeight + 1;
    if (!zooms && !sideways && (scrolls || this.span >= this.end - this.start - 1e-9)) return;
    event.preventDefault();
    if (zooms) this.zoom(2 ** (event.deltaY / 200), this.timeOf(event));
    else {
      const way = ((sideways || event.deltaY) / this.width) * this.span;
      this.look(this.from + way, this.to + way);
    }
  }

  // Arranges what the entry holds in lanes: one for each class, actions above drafts, and the mistakes of a run.
  arrange() {
    const { entry } = this.app;
    const drafts = this.app.drafts();
    const used = new Set([...entry.segments, ...drafts].map((one) => one.label));
    const known = this.app.state.classes.map((one) => one.name);
    const labels = [...known.filter((name) => used.has(name)), ...[...used].filter((name) => !known.includes(name)).sort()];
    this.lanes = labels.map((label) => this.#lane(label, this.app.colour(label), [
      ["action", entry.segments.filter((one) => one.label === label)],
      ["draft", drafts.filter((one) => one.label === label)],
    ]));
    if (this.mistakes && !this.hides) this.lanes.push(this.#lane(this.mistakes.run, "var(--muted)", [["mistake", this.mistakes.list]]));
    let top = 0;
    for (const lane of this.lanes) {
      lane.top = top;
      top += lane.height;
    }
    this.#name(top);
    this.paint();
  }

  #lane(label, colour, parts) {
    const lane = { label, colour, bars: [], height: GAP };
    for (const [kind, members] of parts) {
      for (const row of stack(members.map((one) => ({ ...one, score: one.score ?? 1 })))) {
        for (const one of row) lane.bars.push({ one, kind, top: lane.height });
        lane.height += HEIGHT[kind] + GAP;
      }
    }
    if (label.length > SHORT) lane.height = Math.max(lane.height, TWO_LINES);
    return lane;
  }

  #name(height) {
    this.names.replaceChildren(...this.lanes.map((lane) => {
      const name = make("div", "name", lane.label);
      name.title = lane.label;
      name.style.height = `${lane.height}px`;
      name.style.setProperty("--colour", lane.colour);
      return name;
    }));
    this.area.style.height = `${Math.max(height, 40)}px`;
  }

  paint() {
    if (!this.app.entry) return;
    this.width = Math.max(1, this.area.clientWidth); // asked once: after a change of style it costs a layout
    if (this.to > this.end + 1e-6 || this.from < this.start - 1e-6) [this.from, this.to] = [this.start, this.end];
    const seen = new Set();
    const fresh = [];
    for (const lane of this.lanes) {
      for (const bar of lane.bars) {
        if (bar.one.end < this.from || bar.one.start > this.to) continue;
        seen.add(bar.one.id);
        let node = this.bars.get(bar.one.id);
        if (!node) {
          this.bars.set(bar.one.id, (node = this.#bar()));
          fresh.push(node);
        }
        this.#fill(node, bar, lane);
      }
    }
    for (const [id, node] of this.bars) {
      if (seen.has(id)) continue;
      node.remove();
      this.bars.delete(id);
    }
    this.area.append(...fresh);
    this.#axis();
    this.overview.paint();
    this.paintTime();
  }

  #bar() {
    const node = make("div", "segment");
    node.setAttribute("role", "button");
    node.tabIndex = -1;
    node.append(make("span", "word"));
    return node;
  }

  #fill(node, { one, kind, top }, lane) {
    const [left, right] = [Math.max(-50, this.x(one.start)), Math.min(this.width + 50, this.x(one.end))];
    node.bar = { one, kind };
    node.className = `segment ${kind}${one.kind ? ` ${one.kind}` : ""}`;
    node.classList.toggle("picked", one.id === this.app.selected);
    node.style.transform = `translate(${left}px, ${lane.top + top}px)`;
    node.style.width = `${Math.max(3, right - left)}px`;
    node.style.height = `${HEIGHT[kind]}px`;
    node.style.setProperty("--colour", lane.colour);
    const score = kind === "draft" ? `, draft, score ${one.score.toFixed(2)}` : one.kind ? `, ${one.kind}` : "";
    node.setAttribute("aria-label", `${one.label}, ${clock(one.start)} to ${clock(one.end)}${score}`);
    const word = right - left < 26 ? "" : kind === "draft" ? one.score.toFixed(2) : kind === "mistake" ? `${one.kind}: ${one.label}` : one.label;
    if (node.firstChild.textContent !== word) node.firstChild.textContent = word;
  }

  #axis() {
    const step = tick(this.span, Math.max(2, this.width / 80));
    const marks = [];
    for (let i = Math.ceil(this.from / step - 1e-9); i * step <= this.to + 1e-9; i += 1) {
      const x = this.x(i * step);
      const mark = make("span", "", this.width - x > 46 ? clock(i * step, step < 1 ? 1 : 0) : "");
      mark.style.left = `${x}px`;
      marks.push(mark);
    }
    this.ruler.replaceChildren(...marks);
  }

  // The playhead, and the action that has begun and not ended.
  paintTime() {
    const { player, mark } = this.app;
    const now = player.now;
    if (player.playing && (now > this.to || now < this.from) && !this.drag.active) {
      this.look(now - this.span * 0.1, now + this.span * 0.9);
      return;
    }
    const x = this.x(now);
    this.head.hidden = x < -1 || x > this.width + 1;
    this.head.style.transform = `translateX(${x}px)`;
    this.open.hidden = mark === null;
    if (mark !== null) {
      const [a, b] = [this.x(Math.min(mark, now)), this.x(Math.max(mark, now))];
      this.open.style.transform = `translateX(${clamp(a, -4, this.width)}px)`;
      this.open.style.width = `${Math.max(2, clamp(b, 0, this.width + 4) - clamp(a, -4, this.width))}px`;
    }
    this.overview.paintTime();
  }
}
