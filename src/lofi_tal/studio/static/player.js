// The video, or a clock without one, on the project's times: clock = video.currentTime + offset.
import { clamp } from "/static/shared.js";
import { frameAt, snap } from "./edits.js";

export const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4];

export class Player {
  // `moved()` is called whenever the time, or whether it plays, changes.
  constructor(video, moved) {
    Object.assign(this, { video, moved, frames: new Float64Array(), start: 0, end: 0, fps: 25, offset: 0, moment: 0 });
    Object.assign(this, { ready: false, only: null, wanted: null });
    video.addEventListener("loadedmetadata", () => {
      this.ready = true;
      this.#place();
    });
    video.addEventListener("seeked", () => this.#place());
    video.addEventListener("error", () => { this.ready = false; this.broke?.(); });
    for (const kind of ["play", "pause", "ended"]) video.addEventListener(kind, () => this.#follow());
  }

  // Forgets the last video; until `source` there is only the clock.
  open() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    Object.assign(this, { ready: false, only: null, wanted: null, moment: 0, frames: new Float64Array() });
  }

  range(start, end, fps) { Object.assign(this, { start, end, fps: fps || 25, moment: clamp(this.moment, start, end) }); }

  source(url, offset) {
    this.offset = offset || 0;
    this.ready = false;
    this.video.src = url;
    this.wanted = this.moment;
  }

  get playing() { return this.ready && !this.video.paused && !this.video.ended; }

  // While it stands, the exact time that was asked for; while it plays, the video's.
  get now() { return this.playing ? clamp(this.video.currentTime + this.offset, this.start, this.end) : this.moment; }

  seek(time, keep = false) {
    this.moment = clamp(time, this.start, this.end);
    if (!keep) this.only = null;
    this.wanted = this.moment;
    this.#place();
    this.moved();
  }

  // A browser shows the frame before when a time is rounded down, so it is sent a little into the frame.
  #place() {
    if (this.wanted === null || !this.ready || this.video.seeking) return;
    const time = Math.max(0, this.wanted - this.offset + Math.min(0.002, 0.2 / this.fps));
    this.wanted = null;
    this.video.currentTime = time;
  }

  toggle() {
    this.only = null;
    if (!this.ready) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.pause();
  }

  pause() {
    if (!this.playing) return;
    this.moment = this.snapped(this.now, true);
    this.video.pause();
  }

  play(one) {
    this.seek(one.start);
    this.only = one;
    if (this.ready) this.video.play().catch(() => {});
  }

  #follow() {
    this.moved();
    if (!this.playing) {
      if (this.video.ended) this.moment = this.end;
      return;
    }
    this.moment = this.now;
    if (this.only && this.now >= this.only.end) {
      this.video.pause();
      this.moment = this.only.end;
      this.only = null;
    }
    requestAnimationFrame(() => this.#follow());
  }

  step(count) {
    this.pause();
    if (!this.frames.length) return this.seek(this.moment + count / this.fps);
    const at = this.moment >= this.end - 1e-6 ? this.frames.length : frameAt(this.frames, this.moment); // behind the last frame
    return this.seek(this.frames[Math.max(0, at + count)] ?? this.end);
  }

  // The start of the frame that is shown (`floor`), or the frame edge nearest to a time.
  snapped(time, floor = false) {
    if (!this.frames.length) return clamp(time, this.start, this.end);
    if (floor && time >= this.end - 1e-6) return this.end;
    const near = floor ? this.frames[frameAt(this.frames, time)] : snap(this.frames, time, this.end);
    return clamp(near, this.start, this.end);
  }

  get frame() { return this.frames.length ? frameAt(this.frames, this.moment) : null; }

  speed(value) { this.video.defaultPlaybackRate = this.video.playbackRate = value; }
}
