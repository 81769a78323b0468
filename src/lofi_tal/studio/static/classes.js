// Classes: the chips above the timeline, and the list to filter, add, rename, delete and give own keys.
import { make } from "/static/shared.js";
import { post } from "./api.js";
import { button, input, show } from "./forms.js";
import { freeKey, freeKeys } from "./keys.js";

// Own keys first; the digits that are free go to the first classes without one.
export function classKeys(classes) {
  const keys = new Map(classes.filter((one) => one.key).map((one) => [String(one.key), one.name]));
  const named = new Set(keys.values());
  const rest = classes.filter((one) => !named.has(one.name));
  for (const digit of "123456789") if (!keys.has(digit) && rest.length) keys.set(digit, rest.shift().name);
  return keys;
}

export class Classes {
  constructor(app) {
    this.app = app;
    app.drawClasses = () => this.draw();
    app.pickClass = () => this.pick();
    app.classByKey = (key, own = false) => {
      const name = this.keys.get(key);
      if (name !== undefined) app.setClass(name);
      else if (!own) app.toast(`No class has the key ${key}.`);
      return name !== undefined;
    };
    this.keys = new Map();
  }

  draw() {
    const { app } = this;
    this.keys = classKeys(app.state.classes);
    const keyOf = new Map([...this.keys].map(([key, name]) => [name, key]));
    const chips = app.state.classes.map((one) => {
      const chip = button("", () => app.setClass(one.name), "chip");
      chip.style.setProperty("--colour", app.colour(one.name));
      chip.setAttribute("aria-pressed", String(one.name === app.label));
      if (keyOf.has(one.name)) chip.append(make("kbd", "", keyOf.get(one.name).toUpperCase()));
      chip.append(make("span", "", one.name));
      return chip;
    });
    const all = button("", () => this.pick(), "chip more");
    all.append(make("kbd", "", "G"), make("span", "", chips.length ? "all classes" : "add a class"));
    document.getElementById("classes").replaceChildren(all, ...chips);
  }

  async #change(body, said) {
    try {
      await post("/api/classes", body);
      await this.app.refresh();
      if (said) this.app.toast(said);
      return true;
    } catch (problem) {
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
      return false;
    }
  }

  pick() {
    const filter = input("search", "", { placeholder: "Filter, or the name of a new class", maxLength: 200, spellcheck: false });
    filter.setAttribute("aria-label", "Filter classes, or name a new one");
    this.filter = filter;
    this.rows = make("div", "class-rows");
    this.problem = make("p", "notice");
    this.problem.hidden = true;
    filter.addEventListener("input", () => this.#list());
    filter.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.rows.querySelector("button")?.focus();
      else if (event.key === "Enter") this.rows.querySelector("button")?.click();
      else return;
      event.preventDefault();
    });
    this.rows.addEventListener("keydown", (event) => {
      const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const buttons = [...this.rows.querySelectorAll("button.name")];
      (buttons[buttons.indexOf(event.target) + way] || filter).focus();
    });
    this.dialog = show("dialog", "Classes", filter, this.problem, this.rows);
    this.#list();
  }

  #take(name) {
    this.dialog.close();
    this.app.setClass(name);
    if (this.app.mark !== null && this.app.player.now !== this.app.mark) this.app.toast(`Class ${name}. Press O where the action ends.`);
  }

  async #add(name) {
    if (await this.#change({ name })) this.#take(name);
  }

  #list() {
    const text = this.filter.value.trim();
    const low = text.toLowerCase();
    const names = this.app.state.classes.filter((one) => one.name.toLowerCase().includes(low));
    const exact = names.find((one) => one.name === text);
    const nodes = names.sort((a, b) => (b === exact) - (a === exact)).map((one) => this.#row(one));
    if (text && !exact) {
      const add = button(`Add “${text}”`, () => this.#add(text), "name add");
      if (names.length) nodes.push(add);
      else nodes.unshift(add);
    }
    if (!nodes.length) nodes.push(make("p", "muted", "No class yet: type a name and press Enter."));
    this.rows.replaceChildren(...nodes);
  }

  #row(one) {
    const row = make("div", "class-row");
    const name = button("", () => this.#take(one.name), "name key");
    name.style.setProperty("--colour", this.app.colour(one.name));
    name.append(make("span", "", one.name));
    const key = input("text", one.key || "", { maxLength: 1, size: 1, className: "own", placeholder: [...this.keys].find(([, n]) => n === one.name)?.[0] || "key" });
    key.setAttribute("aria-label", `Own key of ${one.name}`);
    key.title = `Own key: a digit, or one of ${freeKeys().join(" ")}`;
    key.addEventListener("focus", () => key.select());
    key.addEventListener("change", () => this.#key(one, key));
    const rename = button("Rename", () => this.#rename(one, row));
    const drop = button("Delete", async () => { if (await this.#change({ delete: one.name })) this.#list(); });
    drop.title = "Only a class that no action has";
    row.append(name, key, rename, drop);
    return row;
  }

  async #key(one, node) {
    const key = node.value.toLowerCase();
    this.problem.hidden = true;
    if (key && !/^[1-9]$/.test(key) && !freeKey(key)) {
      this.problem.textContent = `The key ${key} has another meaning. Free are the digits and ${freeKeys().join(" ")}.`;
      this.problem.hidden = false;
      node.value = one.key || "";
      return;
    }
    const { rows } = this;
    if (!(await this.#change({ key: [one.name, key] }))) node.value = one.key || "";
    else if (rows === this.rows && !rows.querySelector(".renaming")) this.#list(); // else another dialog is open by now, or a name is typed
  }

  #rename(one, row) {
    const name = input("text", one.name, { maxLength: 200 });
    name.setAttribute("aria-label", `New name of ${one.name}`);
    name.addEventListener("keydown", async (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        this.#list();
      }
      if (event.key !== "Enter") return;
      event.preventDefault();
      event.stopPropagation();
      const fresh = name.value.trim();
      if (!fresh || fresh === one.name) return this.#list();
      if (this.app.state.classes.some((other) => other.name === fresh)) return this.#offerMerge(one.name, fresh, row);
      return this.#renamed(one.name, fresh);
    });
    row.classList.add("renaming");
    row.replaceChildren(name, make("small", "muted", "Enter renames it in every video, Escape leaves it"));
    name.focus();
    name.select();
  }

  // The new name is that of another class: both become one, if the user says so.
  #offerMerge(old, fresh, row) {
    const yes = button(`Make ${old} a part of ${fresh}`, () => this.#renamed(old, fresh, { merge: true }), "strong");
    row.replaceChildren(make("small", "", `There is a class ${fresh} already.`), yes, button("Leave it", () => this.#list()));
    yes.focus();
  }

  async #renamed(old, fresh, more = {}) {
    if (!(await this.#change({ rename: [old, fresh], ...more }, `${old} is now ${fresh}, in every video.`))) return;
    if (this.app.label === old) this.app.label = fresh;
    if (this.app.entry) this.app.changed(this.app.entry.id);
    this.#list();
  }
}
