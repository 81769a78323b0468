// The page is put together here: parts, events of the server, and what is told to the user.
import { get, inOrder, listen } from "./api.js";
import { App } from "./app.js";
import { same } from "./edits.js";
import { Classes } from "./classes.js";
import * as dialogs from "./dialogs.js";
import { watchKeys } from "./keys.js";
import { VideoList } from "./list.js";
import { Panel } from "./panel.js";
import { Player } from "./player.js";
import { Review } from "./review.js";
import { Saver } from "./saving.js";
import { Timeline } from "./timeline.js";
import { Training } from "./training.js";

const byId = (id) => document.getElementById(id);

function toaster() {
  let timer = null;
  return (text) => {
    byId("toast").textContent = text;
    byId("toast").hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => { byId("toast").hidden = true; }, Math.max(4000, 60 * text.length));
  };
}

// What the corner says: saved, saving, or not saved and why. Two things can be wrong: a change is not sent, or no events come.
function saying() {
  const state = { save: "saved", why: "", alive: true, problem: "" };
  const words = { saved: "Saved", saving: "Saving…", unsaved: "Not saved" };
  return (news) => {
    Object.assign(state, news);
    byId("saved").textContent = words[state.save];
    byId("saved").className = state.save;
    const gone = "The server does not answer. Your changes are kept here and sent when it is back: start lofi studio again with the same port, and open the address that it prints.";
    const trouble = state.save === "unsaved" ? (state.alive ? `Not saved: ${state.why} Your changes are kept here and sent again.` : gone) : state.alive ? state.problem : gone;
    byId("trouble").textContent = trouble;
    byId("trouble").hidden = !trouble;
  };
}

function later(work, wait) {
  let timer = null;
  return () => { timer ??= setTimeout(() => { timer = null; work(); }, wait); };
}

function hear(app, say) {
  const reload = later(() => app.reload(), 300);
  const relist = later(() => app.relist(), 700);
  const changed = new Map();
  const look = later(() => {
    const news = [...changed];
    changed.clear();
    for (const [id, revision] of news) app.changed(id, revision);
    if (news.some(([id]) => id !== app.entry?.id)) app.relist();
  }, 150);
  const kinds = {
    video: (event) => { changed.set(event.id, event.revision); look(); },
    labels: reload,
    videos: relist,
    media: (event) => { if (event.id === app.entry?.id) app.media(); },
    job: (event) => app.training.heard(event.id),
    problem: (event) => say({ problem: event.text }),
  };
  let before = true;
  listen((event) => kinds[event.kind]?.(event), (alive) => {
    say({ alive });
    if (alive && !before) {
      app.saver.again();
      reload();
    }
    before = alive;
  });
}

async function relist(app) {
  const { videos } = await get("/api/videos");
  const known = videos.length === app.list.videos.length && videos.every((one) => app.list.byId.has(one.id));
  if (known) for (const one of videos) { if (one.id !== app.entry?.id || !app.saver.pending(one.id).length) app.list.update(one.id, one); }
  else app.list.set(videos);
  if (app.entry && !app.entry.clock) app.changed(app.entry.id);
}

function wire(app) {
  app.zoomChosen = () => {
    const one = app.chosen.one;
    if (one) app.timeline.look(one.start - (one.end - one.start) / 2, one.end + (one.end - one.start) / 2);
    else app.toast("Choose an action first.");
  };
  app.escape = () => {
    if (document.activeElement?.matches("input")) document.activeElement.blur();
    if (app.timeline.drag.cancel()) return;
    if (app.mark !== null) app.mark = null;
    else app.selected = null;
    if (app.entry) app.draw();
    sidebar(false);
  };
  app.help = () => dialogs.help(app);
  app.ask = dialogs.ask;
  app.relist = inOrder(() => relist(app).catch(() => {}));
  app.reload = async () => {
    await Promise.all([app.refresh(), app.relist()]).catch((problem) => app.toast(problem.message));
    if (app.entry) await app.changed(app.entry.id);
  };
  const acts = { "open-help": app.help, "open-runs": () => app.training.open(), "open-split": () => dialogs.split(app), "open-import": () => dialogs.importLabels(app), "open-export": () => dialogs.exportLabels(app), "open-drafts": () => dialogs.drafts(app) };
  for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
  byId("show-videos").addEventListener("click", () => sidebar(!document.body.classList.contains("listing")));
  addEventListener("hashchange", () => {
    const id = chosen();
    if (id && id !== app.wanted) app.open(id);
  });
  addEventListener("beforeunload", (event) => { if (app.saver.queue.length) event.preventDefault(); });
}

const chosen = () => new URLSearchParams(location.hash.slice(1)).get("video");

function sidebar(open) {
  document.body.classList.toggle("listing", open);
  byId("show-videos").setAttribute("aria-expanded", String(open));
}

async function start() {
  const say = saying();
  const app = new App(new Player(byId("player"), () => { app.timeline?.paintTime(); app.panel?.time(); }));
  app.toast = toaster();
  app.list = new VideoList((id) => {
    sidebar(false);
    byId("work").focus({ preventScroll: true }); // keys are for the video from here on
    app.open(id);
  });
  app.list.failed = app.toast;
  app.saver = new Saver(
    (save, why = "") => say({ save, why }),
    (id, entry, last) => app.answered(id, entry, last),
    (change, problem) => {
      const theirs = problem.answer.entry;
      if (problem.status !== 409) app.toast(`Not saved: ${problem.message}`);
      else if (!theirs || !same(theirs, change.body)) dialogs.conflict(app, change, problem); // else it had come after all
      app.changed(change.id);
    });
  app.training = new Training(app);
  app.review = new Review(app);
  new Classes(app);
  app.timeline = new Timeline(byId("timeline"), app);
  app.panel = new Panel(app);
  wire(app);
  watchKeys(app);
  say({});
  try {
    await Promise.all([app.refresh(), app.relist()]);
  } catch (problem) {
    say({ save: "unsaved", why: problem.message });
    return;
  }
  say({ problem: app.state.problem || "" });
  byId("folder").textContent = app.state.folder;
  byId("folder").title = app.state.labels;
  app.saver.open(app.state.labels);
  get("/api/order").then(({ measures }) => app.list.measures(measures)).catch(() => {});
  get("/api/jobs").then((jobs) => jobs[0] && app.training.heard(jobs[0].id)).catch(() => {});
  hear(app, say);
  const known = app.list.byId.has(chosen()) ? chosen() : null;
  const id = known || app.list.unchecked() || app.list.beside(1);
  if (id) await app.open(id);
  else byId("nothing").textContent = "There is no video in this folder.";
  document.body.dataset.ready = "yes";
}

start();
