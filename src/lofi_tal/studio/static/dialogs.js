// Dialogs: keys, split, import, export, drafts of a model, a question, and a change that met another one.
import { counted, make } from "/static/shared.js";
import { get, post, videoPath } from "./api.js";
import { button, choice, command, field, input, notes, previewing, show, submit, tick } from "./forms.js";
import { KEYS, keyName } from "./keys.js";
import { classKeys } from "./classes.js";

const FORMAT_NAMES = {
  activitynet: "ActivityNet JSON (what the studio writes)", "label-studio": "Label Studio", cvat: "CVAT", elan: "ELAN",
  via: "VIA", boris: "BORIS", audacity: "Audacity labels", csv: "CSV", coin: "COIN", thumos14: "THUMOS14",
};
const named = (list) => list.map((name) => [name, FORMAT_NAMES[name] || name]);

export function help(app) {
  const boxes = new Map();
  for (const row of KEYS) {
    if (!boxes.has(row.title)) {
      const box = make("section", "keys-of");
      box.append(make("h3", "", row.title), make("dl"));
      boxes.set(row.title, box);
    }
    const list = boxes.get(row.title).lastChild;
    const term = make("dt");
    const keys = row.keys.length > 4 ? [row.keys[0], row.keys.at(-1)] : row.keys;
    keys.forEach((key, i) => term.append(...(i ? [row.keys.length > 4 ? " – " : " "] : []), make("kbd", "", keyName(key))));
    list.append(term, make("dd", "", row.text));
  }
  const own = [...classKeys(app.state.classes)];
  if (own.length) {
    const box = make("section", "keys-of");
    const list = make("dl");
    for (const [key, name] of own) {
      const term = make("dt");
      term.append(make("kbd", "", key.toUpperCase()));
      list.append(term, make("dd", "", name));
    }
    box.append(make("h3", "", "Classes"), list);
    boxes.set("Classes", box);
  }
  const mouse = make("p", "muted", "Mouse: drag an edge or a whole action, double-click to play it alone. Ctrl and wheel zoom, Shift and wheel scroll. The strip above the timeline is the whole video: drag to move there.");
  const grid = make("div", "key-grid");
  grid.append(...boxes.values());
  show("help", "Keys", mouse, grid);
}

export function ask(title, text) {
  return new Promise((done) => {
    const value = input("text", "", { maxLength: 200 });
    const form = submit("OK", () => { answer = value.value; dialog.close(); });
    let answer = null;
    form.with(field(text, value));
    const dialog = show("dialog", title, form);
    dialog.addEventListener("close", () => done(answer), { once: true });
  });
}

export function split(app) {
  const sizes = (subsets) => Object.entries(subsets).map(([name, count]) => `${count} ${name}`).join(", ");
  const share = input("number", "80", { min: 1, max: 99, step: 1 });
  const seed = input("number", "0", { min: 0, step: 1 });
  const [keepLabel, keep] = tick("videos of earlier runs keep the subset that they have there", true);
  const words = command("");
  const said = make("p", "said muted");
  const body = () => ({ train: Number(share.value) / 100, seed: Number(seed.value), keep: keep.checked });
  const form = submit("Split", async () => {
    await app.saver.settled();
    const { subsets } = await post("/api/split", body());
    dialog.close();
    app.toast(`The videos are split: ${sizes(subsets)}.`);
    await app.reload();
  });
  const preview = previewing(async () => {
    await app.saver.settled();
    return post("/api/split", { ...body(), preview: true });
  }, ({ changed, kept, subsets, command: line }) => {
    words.set(line);
    said.textContent = `Then there are: ${sizes(subsets)}. The subset changes for ${counted(changed, "video")}.${kept ? ` Of those in earlier runs, ${kept} keep theirs: what was trained on must not be evaluated.` : ""}`;
  }, (problem) => { said.textContent = problem.message; });
  for (const node of [share, seed, keep]) node.addEventListener("change", preview);
  form.with(field("Training, per cent of the videos", share), field("Random seed", seed, "The same seed gives the same split."), keepLabel, said, words);
  const dialog = show("dialog", "Split into training and validation", make("p", "", "Labelled videos get a subset, so that both have every class, as far as that is possible. You can change a video's subset by hand afterwards."), form);
  preview();
}

export function exportLabels(app) {
  const format = choice(named(app.state.formats.export || []), "activitynet");
  const form = submit("Download", async () => {
    await app.saver.settled();
    const link = make("a");
    link.href = `/api/export/${encodeURIComponent(format.value)}`;
    link.download = "";
    link.click();
    dialog.close();
    app.toast("The labels are in your downloads.");
  });
  const words = command("");
  const tell = () => words.set(format.value === "activitynet" ? `cp ${app.state.labels} COPY.json` : `lofi data convert ${app.state.labels} --to ${format.value}`);
  format.addEventListener("change", tell);
  tell();
  form.with(field("Format", format), words);
  const dialog = show("dialog", "Export labels", make("p", "", "Labels are exported, drafts are not."), form);
}

const bytes64 = (data) => {
  let text = "";
  for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
  return btoa(text);
};

async function content(file) {
  const data = new Uint8Array(await file.arrayBuffer());
  try { return { text: new TextDecoder("utf-8", { fatal: true }).decode(data) }; } catch { return { base64: bytes64(data) }; }
}

export function importLabels(app) {
  const file = input("file");
  const format = choice([["auto", "by its content"], ...named((app.state.formats.import || []).filter((name) => name !== "auto"))], "auto");
  const kind = choice([["labels", "labels"], ["drafts", "drafts, to be checked"]], "labels");
  const fps = input("number", "", { min: 0.1, step: "any", placeholder: "only for formats that count frames" });
  const [replaceLabel, replace] = tick("replace the labels that videos have already");
  const said = make("div", "said");
  said.setAttribute("role", "status");
  kind.addEventListener("change", () => { replaceLabel.hidden = kind.value === "drafts"; });
  const form = submit("Import", async () => {
    if (!file.files.length) throw new Error("Choose a file.");
    await app.saver.settled();
    const body = { name: file.files[0].name, format: format.value, as: kind.value, ...(await content(file.files[0])) };
    if (fps.value) body.fps = Number(fps.value);
    if (replace.checked && kind.value === "labels") body.replace = true;
    const answer = await post("/api/import", body);
    const words = body.as === "drafts" ? "draft" : "action";
    said.replaceChildren(make("p", "strong", `Imported: ${counted(answer.segments, words)} in ${counted(answer.videos, "video")}.`), notes(answer.notes || []));
    await app.reload();
  });
  form.with(field("File", file), field("Format", format), field("As", kind), field("Frames per second", fps), replaceLabel, said);
  show("dialog", "Import", make("p", "", "Labels of another tool, or what a model found. Nothing that exists is replaced unless you say so."), form);
}

export async function drafts(app) {
  await app.saver.settled();
  const models = await get("/api/models").catch(() => []);
  if (document.querySelector("dialog[open]")) return; // the user opened another one meanwhile
  const model = choice(models.map((name) => [name, name]), models[0]);
  const which = choice([["new", "all new videos"], ...(app.entry ? [["this", `this video (${app.entry.id})${app.entry.state === "checked" ? ": checked, it takes no drafts" : ""}`], ["shown", `the list (${counted(app.list.shown.length, "video")})`]] : [])], app.entry && app.entry.state !== "checked" ? "this" : "new");
  const threshold = input("number", "", { min: 0, max: 1, step: "any", placeholder: "the model's own" });
  const words = command(app.state.commands?.detect || "");
  const body = () => ({
    model: model.value,
    videos: which.value === "new" ? "new" : which.value === "this" ? [app.entry.id] : app.list.shown.filter((one) => one.state !== "checked").map((one) => one.id),
    threshold: threshold.value === "" ? null : Number(threshold.value),
  });
  const form = submit("Find drafts", async () => {
    const job = await post("/api/drafts", body());
    app.training.open(job.id);
    if (job.notes?.length) app.toast(job.notes.join(" "));
  });
  if (!models.length) {
    form.querySelector(".strong").disabled = true;
    form.with(make("p", "notice", "There is no model yet. Train one under “Train and look”, or start with --model RUN. You can also import detections as drafts."));
  }
  const preview = previewing(
    () => post("/api/drafts", { ...body(), preview: true }),
    (answer) => { if (answer.command) words.set(answer.command); }); // of an error the button tells
  if (models.length) {
    for (const node of [model, which, threshold]) node.addEventListener("change", preview);
    preview();
  }
  form.with(field("Model", model), field("Videos", which), field("Lowest score", threshold), words);
  show("dialog", "Find drafts with a model", make("p", "", "What the model finds appears as drafts. Nothing is a label before you accept it."), form);
}

// Another window, or another program, changed what we were changing. Nothing of it is overwritten unless the user says so.
export function conflict(app, change, problem) {
  const theirs = problem.answer.entry;
  const keep = button("Keep theirs", () => dialog.close(), "strong");
  const mine = button("Put mine in its place", async () => {
    dialog.close();
    const entry = await get(videoPath(change.id, "entry"));
    if (app.entry?.id === change.id) app.edit(change.body.did, { ...entry, ...change.body });
    else app.saver.add(change.id, { ...entry, ...change.body }, change.body.did);
  });
  const count = (one) => `${counted(one.segments.length, "action")}, ${counted(one.drafts.length, "draft")}, ${one.state}`;
  const facts = make("dl", "card");
  for (const [name, one] of [["Theirs, as saved now", theirs], ["Mine, not saved", change.body]]) {
    facts.append(make("dt", "", name), make("dd", "", one ? count(one) : "unknown"));
  }
  const ends = make("div", "ending buttons");
  ends.append(keep, mine);
  const dialog = show("dialog", "Changed elsewhere", make("p", "", `${change.id} was changed in another window or by another program. Your last change was not saved: “${change.body.did}”. If you put it in the place of theirs, undo brings theirs back.`), facts, ends);
  keep.focus();
}
