// The parts of dialogs: every text is set as text, and one dialog is open at a time.
import { make } from "/static/shared.js";
import { turns } from "./api.js";

export function button(text, act, name = "") {
  const node = make("button", name, text);
  node.type = "button";
  if (act) node.addEventListener("click", act);
  return node;
}

// Opens a dialog with a title, a body of nodes, and buttons; closes with Escape or the cross.
export function show(id, title, ...body) {
  const dialog = document.getElementById(id);
  const head = make("header", "dialog-head");
  const heading = make("h2", "", title);
  heading.id = `${id}-title`;
  const cross = button("✕", () => dialog.close(), "plain");
  cross.setAttribute("aria-label", "Close");
  head.append(heading, cross);
  dialog.replaceChildren(head, ...body);
  if (!dialog.open) {
    dialog.showModal();
    dialog.addEventListener("close", () => document.getElementById("work").focus({ preventScroll: true }), { once: true });
  }
  (dialog.querySelector("[autofocus], input, select, textarea") || cross).focus();
  return dialog;
}

let hints = 0;
export function field(text, node, hint = "") {
  const label = make("label", "field");
  node.setAttribute("aria-label", text);
  label.append(make("span", "", text), node);
  if (!hint) return label;
  const more = make("small", "muted", hint);
  more.id = `hint-${(hints += 1)}`;
  node.setAttribute("aria-describedby", more.id);
  label.append(more);
  return label;
}

export function input(type, value = "", more = {}) {
  const node = make("input");
  Object.assign(node, { type, autocomplete: "off", ...more });
  node.value = value;
  return node;
}

export function choice(options, value) {
  const node = make("select");
  for (const [name, text] of options) node.append(new Option(text, name, name === value, name === value));
  return node;
}

export function tick(text, checked = false) {
  const node = input("checkbox");
  node.checked = checked;
  const label = make("label", "every");
  label.append(node, ` ${text}`);
  return [label, node];
}

// Returns what asks the server what would be done, and shows the answer unless it was asked anew meanwhile.
export function previewing(ask, answered, refused = () => {}) {
  const turn = turns();
  return async () => {
    const newest = turn();
    try {
      const answer = await ask();
      if (newest()) answered(answer);
    } catch (problem) { if (newest()) refused(problem); }
  };
}

// A command that does the same, to copy.
export function command(text) {
  const box = make("div", "command");
  const code = make("code", "", text);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch { getSelection().selectAllChildren(code); }
  });
  box.append(code, copy);
  box.set = (words) => { code.textContent = words; copy.textContent = "Copy"; };
  return box;
}

export function notes(list, name = "notes") {
  const node = make("ul", name);
  node.append(...list.map((text) => make("li", "", String(text))));
  return node;
}

// A row of buttons at the end; `work` runs when the first is pressed or Enter is, and its error is shown in the dialog.
export function submit(text, work) {
  const form = make("form", "ending");
  const problem = make("p", "notice");
  problem.setAttribute("role", "alert");
  problem.hidden = true;
  const go = make("button", "strong", text);
  go.type = "submit";
  form.append(problem, go);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    problem.hidden = true;
    try { await work(); } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    go.disabled = false;
  });
  form.with = (...nodes) => { form.prepend(...nodes); return form; };
  return form;
}
