// The table of videos with mistakes: two menus choose rows, and the timelines of the first of them are shown.
(() => {
  const MOST = 3;
  const filter = document.querySelector(".filter");
  if (!filter) return;
  const [kind, label] = [filter.querySelector(".kind"), filter.querySelector(".class")];
  const rows = [...document.querySelectorAll(".mistakes tbody tr")].map((row) => ({
    row,
    video: row.dataset.video,
    classes: new Map(Object.entries(JSON.parse(row.dataset.classes))),
    counts: JSON.parse(row.dataset.counts),
  }));
  const cases = new Map([...document.querySelectorAll(".case")].map((one) => [one.dataset.video, one]));
  let picked = null;

  function apply() {
    const counts = (one) => (label.value ? one.classes.get(label.value) || {} : one.counts); // those of the class alone
    const total = (one) => (kind.value ? counts(one)[kind.value] || 0 : Object.values(counts(one)).reduce((a, b) => a + b, 0));
    const found = rows.filter((one) => total(one) > 0)
      .sort((a, b) => total(b) - total(a));
    for (const one of rows) one.row.hidden = true;
    for (const one of found) {
      one.row.hidden = false;
      one.row.parentNode.append(one.row); // in the order of the chosen errors
      one.row.classList.toggle("picked", one.video === picked);
    }
    const shown = new Set(picked ? [picked] : found.filter((one) => cases.has(one.video)).slice(0, MOST).map((one) => one.video));
    if (!rows.length) for (const video of [...cases.keys()].slice(0, MOST)) shown.add(video);
    for (const [video, node] of cases) node.hidden = !shown.has(video);
    filter.querySelector(".found").textContent = `${found.length} of ${rows.length} ${filter.dataset.what || "videos with mistakes"}; ` +
      (picked ? "the timeline of the chosen one below" : shown.size ? "the timelines of the first below" : "no timeline of them is here");
    dispatchEvent(new Event("resize")); // what was hidden has a width now
  }

  for (const one of rows) {
    if (!cases.has(one.video)) continue;
    one.row.classList.add("has-case");
    one.row.addEventListener("click", () => {
      picked = picked === one.video ? null : one.video;
      apply();
    });
  }
  for (const menu of [kind, label]) menu.addEventListener("change", () => { picked = null; apply(); });
  apply();
})();
