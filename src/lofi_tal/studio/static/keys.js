// Every key in one table: what the page does, what the overlay says, and which keys a class may not have.
const group = (title, ...rows) => rows.map(([keys, text, run]) => ({ title, keys: keys.split(" "), text, run }));

export const KEYS = [
  ...group("Play",
    ["space k", "play or pause", (app) => app.player.toggle()],
    ["arrowleft", "one frame back", (app) => app.player.step(-1)],
    ["arrowright", "one frame on", (app) => app.player.step(1)],
    ["shift+arrowleft", "one second back", (app) => app.seek(app.player.now - 1)],
    ["shift+arrowright", "one second on", (app) => app.seek(app.player.now + 1)],
    ["alt+arrowleft", "ten seconds back", (app) => app.seek(app.player.now - 10)],
    ["alt+arrowright", "ten seconds on", (app) => app.seek(app.player.now + 10)],
    ["j", "slower", (app) => app.panel.faster(-1)],
    ["l", "faster", (app) => app.panel.faster(1)],
    ["home", "start of the video", (app) => app.seek(app.player.start)],
    ["end", "end of the video", (app) => app.seek(app.player.end)]),
  ...group("Label",
    ["i", "an action starts here", (app) => app.markIn()],
    ["o", "the action ends here", (app) => app.markOut()],
    ["1 2 3 4 5 6 7 8 9", "class: of what is chosen, and of the next action", (app, key) => app.classByKey(key)],
    ["g", "all classes: filter, add, rename, own keys", (app) => app.pickClass()],
    ["s", "split the action at the playhead", (app) => app.split()],
    ["m", "merge with the next of its class", (app) => app.merge()],
    ["delete backspace", "delete what is chosen", (app) => app.remove()],
    ["ctrl+z u", "undo", (app) => app.step("undo")],
    ["ctrl+shift+z ctrl+y shift+u", "redo", (app) => app.step("redo")]),
  ...group("Choose and place",
    ["arrowdown", "next action or draft", (app) => app.beside(1)],
    ["arrowup", "previous action or draft", (app) => app.beside(-1)],
    ["[", "its start is here", (app) => app.setEdge("start")],
    ["]", "its end is here", (app) => app.setEdge("end")],
    ["e", "type its times", (app) => app.panel.editTimes(false)],
    ["r", "play it alone", (app) => (app.chosen.one ? app.player.play(app.chosen.one) : app.toast("Choose an action first."))],
    ["escape", "choose nothing; take a drag or a start back", (app) => app.escape()]),
  ...group("Drafts",
    ["d", "next draft", (app) => app.review.next()],
    ["a", "accept, and go to the next", (app) => app.review.accept()],
    ["x", "reject, and go to the next", (app) => app.review.reject()],
    ["c", "correct: accept, then type its times; Enter goes to the next", (app) => app.review.correct()],
    ["shift+a", "accept all that score enough", (app) => app.review.acceptAll()]),
  ...group("Timeline",
    ["+ =", "zoom in", (app) => app.timeline.zoom(0.5)],
    ["-", "zoom out", (app) => app.timeline.zoom(2)],
    ["0", "whole video", (app) => app.timeline.all()],
    ["f", "zoom to what is chosen", (app) => app.zoomChosen()],
    ["h", "hide or show the errors of the run", (app) => app.timeline.toggleMistakes()],
    ["shift+s", "snap to frames, or not", (app) => app.panel.toggleSnap()]),
  ...group("Videos",
    ["n", "next video", (app) => app.video(1)],
    ["p", "previous video", (app) => app.video(-1)],
    ["enter", "checked, and the next that is not", (app) => app.checked()],
    ["/", "search", () => document.getElementById("search").focus()],
    ["?", "these keys", (app) => app.help()]),
];

const NAMES = { space: "Space", arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", ctrl: "Ctrl", shift: "Shift", alt: "Alt", delete: "Del", backspace: "⌫", escape: "Esc", enter: "Enter", home: "Home", end: "End" };
export const keyName = (key) => (key === "+" ? "+" : key.split("+").map((part) => NAMES[part] || part.toUpperCase()).join(" "));

const byKey = new Map(KEYS.flatMap((row) => row.keys.map((key) => [key, row])));
const WITHOUT_VIDEO = new Set(["/", "?", "n", "escape"]);
export const freeKey = (key) => /^[a-z]$/.test(key) && !byKey.has(key);
export const freeKeys = () => [..."abcdefghijklmnopqrstuvwxyz"].filter(freeKey);

function spell(event) {
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  const named = key.length > 1 || /[a-z]/.test(key);
  return `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.altKey ? "alt+" : ""}${event.shiftKey && named ? "shift+" : ""}${key}`;
}

// Whether the element under the cursor wants the key itself.
function taken(event) {
  const node = event.target;
  if (node.closest("dialog")) return true;
  if (node.closest("textarea, select") || node.matches("input:not([type=checkbox], [type=range])")) return event.key !== "Escape";
  if (node.matches("input[type=range]")) return event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End";
  return (event.key === " " || event.key === "Enter") && Boolean(node.closest("button, a, input, summary"));
}

export function watchKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (taken(event) || document.querySelector("dialog[open]")) return;
    const key = spell(event);
    const row = byKey.get(key);
    if (row && (app.entry || WITHOUT_VIDEO.has(key))) row.run(app, key);
    else if (!app.entry || !/^[a-z]$/.test(key) || !app.classByKey(key, true)) return;
    event.preventDefault();
  });
  // A menu that was used with the mouse gives the keys back; one that is used by keys keeps them.
  let byMouse = false;
  document.addEventListener("pointerdown", () => { byMouse = true; });
  document.addEventListener("keydown", () => { byMouse = false; }, true);
  document.addEventListener("change", (event) => {
    if (byMouse && event.target.matches("select") && !event.target.closest("dialog")) event.target.blur();
  });
  // A click leaves no focus on a button: the space key goes on to play.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.detail > 0 && button && !button.closest("dialog")) button.blur();
  });
}
