// The list of videos: search, order, filter, and only the rows that are seen are in the page.
import { clock, counted, make } from "/static/shared.js";
import { get, thumbnail, turns } from "./api.js";

const ROW = 64; // pixels; studio.css has the same
const STATES = { new: 0, draft: 1, checked: 2 };
const names = new Intl.Collator(undefined, { numeric: true });

const ORDERS = {
  name: () => 0,
  state: (a, b) => STATES[a.state] - STATES[b.state],
  length: (a, b) => (b.duration ?? -1) - (a.duration ?? -1),
  actions: (a, b) => b.actions - a.actions,
  drafts: (a, b) => b.drafts - a.drafts,
};
const FILTERS = {
  all: ["all", () => true],
  new: ["new", (one) => one.state === "new"],
  draft: ["draft", (one) => one.state === "draft"],
  checked: ["checked", (one) => one.state === "checked"],
  drafts: ["with drafts", (one) => one.drafts > 0],
  problem: ["with problems", (one) => Boolean(one.problem)],
};

export class VideoList {
  // `open(id)` is called with the video that the user chooses.
  constructor(open) {
    this.open = open;
    Object.assign(this, { videos: [], byId: new Map(), shown: [], current: null, rank: new Map(), cursor: 0, waits: false, turn: turns() });
    for (const part of ["list", "search", "sort", "show", "video-count"]) this[part] = document.getElementById(part);
    this.spacer = this.list.querySelector(".spacer");
    for (const [name, [text]] of Object.entries(FILTERS)) this.show.append(new Option(text, name));
    this.list.addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.paint()).observe(this.list);
    this.search.addEventListener("input", () => this.arrange());
    this.show.addEventListener("change", () => this.arrange());
    this.sort.addEventListener("change", () => this.order());
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest(".video");
      if (row) this.open(this.shown[Number(row.dataset.at)].id);
    });
    this.list.addEventListener("keydown", (event) => this.#key(event));
  }

  subsets(names_) {
    for (const option of [...this.show.options]) if (option.value.startsWith("subset:")) option.remove();
    for (const name of names_) this.show.append(new Option(`subset ${name}`, `subset:${name}`));
  }

  // Orders by where a model is least sure, as the server knows them.
  measures(list) {
    const group = make("optgroup");
    group.label = "next video: least sure first";
    for (const { name, text } of list) {
      const option = new Option(`next video: ${name}`, `sure:${name}`);
      option.title = text;
      group.append(option);
    }
    this.sort.append(group);
  }

  set(videos) {
    this.videos = [...videos].sort((a, b) => names.compare(a.id, b.id));
    this.byId = new Map(this.videos.map((one) => [one.id, one]));
    this.arrange();
  }

  // New values of one video; the order stays until the user asks for it again, so that nothing jumps.
  update(id, values) {
    const one = this.byId.get(id);
    if (!one) return;
    Object.assign(one, values);
    if (!this.waits) {
      this.waits = true;
      requestAnimationFrame(() => { this.waits = false; this.#count(); this.paint(); });
    }
  }

  async order() {
    const current = this.turn();
    const by = this.sort.value;
    if (by.startsWith("sure:")) {
      try {
        const { videos } = await get(`/api/order?by=${encodeURIComponent(by.slice(5))}`);
        if (!current()) return;
        this.rank = new Map(videos.map((one, i) => [one.id, i]));
      } catch (problem) {
        if (!current()) return;
        this.rank = new Map();
        this.failed?.(problem.message);
      }
    }
    this.list.scrollTop = 0;
    this.arrange();
  }

  arrange() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const subset = this.show.value.startsWith("subset:") ? this.show.value.slice(7) : null;
    const fits = subset === null ? FILTERS[this.show.value][1] : (one) => one.subset === subset;
    this.shown = this.videos.filter((one) => fits(one) && words.every((word) => one.id.toLowerCase().includes(word)));
    const by = this.sort.value;
    const last = this.videos.length;
    const order = ORDERS[by] || ((a, b) => (this.rank.get(a.id) ?? last) - (this.rank.get(b.id) ?? last));
    if (by !== "name") this.shown.sort(order);
    this.cursor = Math.max(0, this.shown.findIndex((one) => one.id === this.current));
    this.#count();
    this.paint();
  }

  // The video after (1) or before (-1) the open one, in the order shown; undefined at the end.
  beside(step) {
    const at = this.shown.findIndex((one) => one.id === this.current);
    return at < 0 ? this.shown[0]?.id : this.shown[at + step]?.id;
  }

  // The next video in the order shown that is not checked, from the open one on and round.
  unchecked() {
    const at = this.shown.findIndex((one) => one.id === this.current);
    const order = [...this.shown.slice(at + 1), ...this.shown.slice(0, Math.max(0, at))];
    return order.find((one) => one.state !== "checked")?.id;
  }

  choose(id) {
    this.current = id;
    const at = this.shown.findIndex((one) => one.id === id);
    if (at >= 0) this.#reveal(at);
    this.paint();
  }

  #reveal(at) {
    this.cursor = at;
    const top = at * ROW;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW - this.list.clientHeight;
  }

  #count() {
    const count = { new: 0, draft: 0, checked: 0 };
    for (const one of this.videos) count[one.state] += 1;
    const some = this.shown.length === this.videos.length ? counted(this.videos.length, "video") : `${this.shown.length} of ${counted(this.videos.length, "video")}`;
    this["video-count"].textContent = `${some} · ${count.checked} checked · ${count.draft} draft`;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      this.#reveal(Math.min(this.shown.length - 1, Math.max(0, this.cursor + steps[event.key])));
      this.paint();
    } else if (event.key === "Enter" && this.shown[this.cursor]) this.open(this.shown[this.cursor].id);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  paint() {
    this.spacer.style.height = `${this.shown.length * ROW}px`;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 4);
    const last = Math.min(this.shown.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + 4);
    const rows = new Map([...this.spacer.children].map((row) => [row.video, row]));
    const kept = [];
    for (let i = first; i < last; i += 1) {
      const row = rows.get(this.shown[i].id) || this.#row(this.shown[i]);
      this.#fill(row, this.shown[i], i);
      kept.push(row);
    }
    if (kept.length !== this.spacer.children.length || kept.some((row, i) => row !== this.spacer.children[i])) {
      this.spacer.replaceChildren(...kept);
    }
    const active = this.spacer.querySelector(".cursor");
    if (active) this.list.setAttribute("aria-activedescendant", active.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  #row(one) {
    const row = make("div", "video");
    row.video = one.id;
    row.setAttribute("role", "option");
    const picture = make("img", "thumb");
    Object.assign(picture, { alt: "", loading: "lazy", decoding: "async", width: 80, height: 45 });
    picture.addEventListener("error", () => picture.classList.add("broken"));
    picture.src = thumbnail(one.id);
    const words = make("div", "words");
    const head = make("div", "head");
    head.append(make("span", "file"), make("span", "state"));
    const facts = make("div", "facts muted");
    facts.append(make("span", ""), make("span", "subset"));
    words.append(head, facts);
    row.append(picture, words);
    return row;
  }

  #fill(row, one, at) {
    row.id = `video-${at}`;
    row.dataset.at = at;
    row.style.top = `${at * ROW}px`;
    row.classList.toggle("cursor", at === this.cursor);
    row.setAttribute("aria-selected", String(one.id === this.current));
    row.setAttribute("aria-posinset", at + 1);
    row.setAttribute("aria-setsize", this.shown.length);
    const [head, facts] = row.lastChild.children;
    const [file, state] = head.children;
    const [counts, subset] = facts.children;
    file.textContent = one.id;
    subset.textContent = one.subset || "";
    row.title = one.problem ? `${one.id}: ${one.problem}` : one.id;
    state.className = `state ${one.state}`;
    state.textContent = one.state;
    const parts = [one.duration ? clock(one.duration, 0) : "…", counted(one.actions, "action")];
    if (one.drafts) parts.push(counted(one.drafts, "draft"));
    if (one.problem) parts.push("problem");
    counts.textContent = parts.join(" · ");
  }
}
