// The table of videos with mistakes: two menus choose rows, and the timelines of the first of them are shown.
(() => {
  const MOST = 3;
  const filter = document.querySelector(".filter");
  if (!filter) return;
  const [kind, label] = [filter.querySelector(".kind"), filter.querySelector(".class")];
  const rows = [...document.querySelectorAll(".mistakes tbody tr")].map((row) => ({
    row,
    video: row.dataset.video,
    classes: new Set(JSON.parse(row.dataset.classes)),
    counts: JSON.parse(row.dataset.counts),
  }));
  const cases = new Map([...document.querySelectorAll(".case")].map((one) => [one.dataset.video, one]));
  let picked = null;

  function apply() {
    const total = (one) => (kind.value ? one.counts[kind.value] : Object.values(one.counts).reduce((a, b) => a + b, 0));
    const found = rows.filter((one) => total(one) > 0 && (!label.value || one.classes.has(label.value)))
      .sort((a, b) => total(b) - total(a));
    for (const one of rows) one.row.hidden = true;
    for (const one of found) {
      one.row.hidden = false;
      one.row.parentNode.append(one.row); // in the order of the chosen error
      one.row.classList.toggle("picked", one.video === picked);
    }
    const shown = new Set(picked ? [picked] : found.filter((one) => cases.has(one.video)).slice(0, MOST).map((one) => one.video));
    if (!rows.length) for (const video of [...cases.keys()].slice(0, MOST)) shown.add(video);
    for (const [video, node] of cases) node.hidden = !shown.has(video);
    filter.querySelector(".found").textContent = `${found.length} of ${rows.length} ${filter.dataset.what || "videos with mistakes"}; ` +
      `${picked ? "the timeline of the chosen one" : "the timelines of the first"} below`;
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
