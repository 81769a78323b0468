// A viewer is a video (or none), lanes of segments and a table, all on one clock. It needs shared.js.
(() => {
  const sandboxed = location.protocol !== "file:" && self.origin === "null"; // as the studio shows a page
  const tooltip = document.body.appendChild(make("div", "tooltip"));
  tooltip.hidden = true;

  function start(root) {
    const data = JSON.parse(root.querySelector("script.data").textContent);
    const find = (name) => root.querySelector(name);
    const [video, lanes, canvas, slider, zoom] = ["video", ".lanes", ".canvas", ".threshold", ".zoom"].map(find);
    const segments = data.sources.flatMap((source) => {
      const [first, other] = [new Set(source.first), new Set(source.other)];
      return source.segments.map(([start, end, label, score, time], i) =>
        ({ start, end, time: time ?? (start + end) / 2, label: data.labels[label], score, source,
          first: first.has(i), other: other.has(i) }));
    });
    const truth = segments.filter((one) => one.source.truth);
    const detections = segments.filter((one) => !one.source.truth);
    const best = Math.max(...detections.map((one) => one.score), data.threshold, 1e-9);
    for (const one of detections) {
      one.tiou = Math.max(0, ...truth.filter((other) => other.label === one.label).map((other) => tiou(one, other)));
    }
    const labels = [...new Set([...truth.sort((a, b) => a.start - b.start),
      ...[...detections].sort((a, b) => b.score - a.score)].map((one) => one.label))];
    let duration = data.duration, threshold = data.threshold, moment = 0, only = null, sort = "start", broken = !video;
    let chosen = data.chosen, every = false; // what was chosen beforehand, by class; all labels of a span

    const place = (one) => (data.events ? one.time : one.start);
    const now = () => (broken ? moment : video.currentTime);
    const seek = (time) => {
      moment = clamp(time, 0, duration);
      only = null;
      if (!broken) video.currentTime = moment;
      paint();
    };
    const play = (one) => {
      seek(one.start);
      only = one;
      if (!broken) video.play().catch(() => {});
    };
    const toggle = () => {
      only = null;
      if (!broken) video.paused ? video.play().catch(() => {}) : video.pause();
    };

    function describe(one, event) {
      tooltip.replaceChildren(
        make("strong", "", one.label),
        make("span", "", data.events ? clock(one.time)
          : `${clock(one.start)} – ${clock(one.end)} (${(one.end - one.start).toFixed(2)} s)`),
        make("span", "", one.source.truth ? "ground truth" :
          `${one.source.name}, score ${figure(one.score)}${truth.length ? `, tIoU ${one.tiou.toFixed(2)}` : ""}`));
      tooltip.hidden = false;
      const box = tooltip.getBoundingClientRect();
      tooltip.style.left = `${clamp(event.clientX + 14, 4, innerWidth - box.width - 4)}px`;
      tooltip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
    }

    function bar(one, top, height) {
      const node = make("div", data.events ? "segment event" : "segment");
      const [from, to] = [clamp(one.start, 0, duration), clamp(one.end, 0, duration)];
      node.style.cssText = `left:${(100 * from) / duration}%;width:${(100 * Math.max(0, to - from)) / duration}%;` +
        `--moment:${(100 * (clamp(one.time, from, to) - from)) / Math.max(to - from, 1e-9)}%;` +
        `top:${top}px;height:${height}px;--strength:${one.source.truth ? 100 : 30 + (70 * Math.max(0, one.score)) / best}%`;
      node.addEventListener("pointermove", (event) => describe(one, event));
      node.addEventListener("pointerleave", () => { tooltip.hidden = true; });
      node.addEventListener("click", () => seek(place(one)));
      node.addEventListener("dblclick", () => play(one));
      one.nodes.push(node);
      return node;
    }

    // What all systems begin with, such as the run of two arms, tells none of them apart: lanes leave it out.
    const names = data.sources.filter((source) => !source.truth).map((source) => source.name);
    const parts = (names.length > 1 && names[0].match(/.*?[:/]/g)) || [];
    const common = parts.map((_, i) => parts.slice(0, i + 1).join("")).filter((start) =>
      names.every((name) => name.startsWith(start) && name.length > start.length)).at(-1) || "";
    const called = (source) => (source.truth ? source.name : source.name.slice(common.length));

    function lane(source, members) {
      const rows = stack(members);
      const height = rows.length <= 4 ? 15 : Math.max(4, 72 / rows.length);
      const node = make("div", "lane");
      const track = make("div", "track");
      node.style.setProperty("--colour", `var(--${source.colour})`);
      track.style.height = `${rows.length * (height + 2) + 6}px`;
      rows.forEach((row, i) => row.forEach((one) => track.append(bar(one, 4 + i * (height + 2), height))));
      const name = make("div", "name", called(source));
      name.title = source.name;
      node.append(name, track);
      return node;
    }

    function group(label, shown) {
      const node = make("div", "group");
      const title = node.appendChild(make("div", "label"));
      title.append(make("span", "", label));
      for (const source of data.sources) {
        const members = shown.filter((one) => one.source === source && one.label === label);
        if (members.length) node.append(lane(source, members));
      }
      return node.children.length > 1 ? node : null;
    }

    function row(one) {
      const node = make("tr");
      const button = make("button", "play", "▶");
      button.type = "button";
      const span = data.events ? [clock(one.time)] : [clock(one.start), clock(one.end)];
      button.setAttribute("aria-label", `Play ${one.label}, ${span.join(" to ")}`);
      const cells = [["", ""], ...span.map((time) => [time, "number"]), [one.label, "text"],
        [figure(one.score), "number"], [one.tiou.toFixed(2), "number tiou"], [one.source.name, "system"]];
      for (const [text, name] of cells) node.append(make("td", name, text));
      node.firstChild.append(button);
      node.style.setProperty("--colour", `var(--${one.source.colour})`);
      node.addEventListener("click", () => play(one));
      one.nodes.push(node);
      return node;
    }

    function draw() {
      const shows = (one) => (chosen ? one.first : one.score >= threshold && (every || !one.other));
      const shown = segments.filter((one) => one.source.truth || shows(one));
      const found = shown.filter((one) => !one.source.truth);
      for (const one of segments) Object.assign(one, { nodes: [], inside: false });
      tooltip.hidden = true;
      find(".groups").replaceChildren(...labels.map((label) => group(label, shown)).filter(Boolean));
      const order = { start: (a, b) => place(a) - place(b) || b.score - a.score, score: (a, b) => b.score - a.score };
      find("tbody").replaceChildren(...found.sort(order[sort]).map(row));
      for (const head of root.querySelectorAll("th[data-sort]")) {
        head.setAttribute("aria-sort", head.dataset.sort !== sort ? "none" : sort === "start" ? "ascending" : "descending");
      }
      find(".limit").value = chosen ? "chosen by class" : figure(threshold);
      find(".again").hidden = chosen || !data.chosen;
      find(".count").textContent = `${found.length} of ${detections.length} detections`;
      find(".nothing").hidden = found.length > 0;
      find(".nothing").textContent = detections.length ? "No detection scores that much: lower the threshold."
        : "There are no detections.";
      axis();
      paint();
    }

    function axis() {
      const room = Math.max(2, (canvas.clientWidth - 90) / 70);
      const step = tick(duration, room);
      const marks = [];
      for (let i = 0; i * step <= duration + 1e-9; i += 1) {
        const fits = (duration - i * step) / duration > 0.6 / room;
        const mark = make("span", "", fits ? clock(i * step, step < 1 ? 1 : 0) : "");
        mark.style.left = `${(100 * i * step) / duration}%`;
        marks.push(mark);
      }
      find(".axis").replaceChildren(...marks);
    }

    function paint() {
      const time = now();
      const share = clamp(time / duration, 0, 1);
      find(".playhead").style.left = `${100 * share}%`;
      find(".time").textContent = `${clock(time)} / ${clock(duration)}`;
      for (const one of segments) {
        const inside = time >= one.start && time < one.end;
        if (inside === one.inside) continue;
        one.inside = inside;
        for (const node of one.nodes) node.classList.toggle("now", inside);
      }
      const box = find(".overlay");
      const x = box.offsetLeft + share * box.clientWidth;
      if (!broken && !video.paused && (x < lanes.scrollLeft || x > lanes.scrollLeft + lanes.clientWidth)) {
        lanes.scrollLeft = x - lanes.clientWidth / 4;
      }
    }

    function follow() {
      if (only && video.currentTime >= only.end) {
        video.pause();
        only = null;
      }
      paint();
      if (!video.paused && !video.ended) requestAnimationFrame(follow);
    }

    const spot = (event) => {
      const box = find(".overlay").getBoundingClientRect();
      return (duration * (event.clientX - box.left)) / box.width;
    };
    const scrubs = (event) => event.isPrimary && event.button === 0 && event.target.closest(".track, .axis") &&
      !event.target.closest(".segment");
    canvas.addEventListener("pointerdown", (event) => {
      if (!scrubs(event)) return;
      seek(spot(event));
      if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId); // a finger scrolls instead
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) seek(spot(event));
    });
    slider.max = best;
    slider.value = threshold;
    slider.addEventListener("input", () => { chosen = false; threshold = Number(slider.value); draw(); });
    find(".again").addEventListener("click", () => {
      [chosen, every, threshold, slider.value] = [true, false, data.threshold, data.threshold];
      find(".every input").checked = false;
      draw();
    });
    find(".every").hidden = !segments.some((one) => one.other);
    find(".every input").addEventListener("change", (event) => { chosen = false; every = event.target.checked; draw(); });
    zoom.addEventListener("input", () => {
      const factor = 2 ** Number(zoom.value);
      canvas.style.setProperty("--zoom", factor);
      find(".factor").value = `${factor}×`;
      axis();
      const box = find(".overlay");
      lanes.scrollLeft = box.offsetLeft + clamp(now() / duration, 0, 1) * box.clientWidth - lanes.clientWidth / 2;
    });
    for (const head of root.querySelectorAll("th[data-sort]")) {
      head.addEventListener("click", () => { sort = head.dataset.sort; draw(); });
    }
    for (const source of data.sources) {
      const key = make("span", "key", source.name);
      key.style.setProperty("--colour", `var(--${source.colour})`);
      find(".legend").append(key);
    }
    root.classList.toggle("no-truth", !truth.length);
    root.classList.toggle("one-system", data.sources.filter((source) => !source.truth).length < 2);
    addEventListener("resize", axis);
    root.addEventListener("jump", (event) => { root.scrollIntoView({ block: "nearest" }); seek(event.detail); });
    draw();
    if (video) {
      const fail = () => {
        broken = true;
        video.hidden = true;
        find(".unplayable").hidden = false;
        if (sandboxed) find(".unplayable").textContent = "Opened in the studio, this page shows no video: open its file for that. The lanes and the table work without it.";
        paint();
      };
      const ready = () => {
        if (!video.videoWidth) return fail(); // sound, but a picture that the browser cannot decode
        if (Number.isFinite(video.duration)) duration = Math.max(duration, video.duration);
        return draw();
      };
      video.addEventListener("error", fail);
      video.addEventListener("loadedmetadata", ready);
      video.addEventListener("play", () => {
        for (const other of document.querySelectorAll("video")) if (other !== video) other.pause();
        follow();
      });
      video.addEventListener("timeupdate", paint);
      video.addEventListener("seeking", () => {
        if (only && (video.currentTime < only.start - 0.05 || video.currentTime > only.end)) only = null;
        paint();
      });
      if (video.error) fail();
      else if (video.readyState) ready();
    }
    return { root, seek, toggle, now };
  }

  const viewers = [...document.querySelectorAll(".viewer")].map(start);
  const always = "alone" in document.body.dataset ? viewers[0] : undefined; // elsewhere, space scrolls the page
  let active = always;
  document.addEventListener("click", (event) => { // a button beside a viewer that names a moment
    const button = event.target.closest("[data-jump]");
    const viewer = button && button.closest(".case").querySelector(".viewer");
    if (viewer) viewer.dispatchEvent(new CustomEvent("jump", { detail: Number(button.dataset.jump) }));
  });
  for (const kind of ["pointerdown", "focusin"]) {
    document.addEventListener(kind, (event) => {
      active = viewers.find((viewer) => viewer.root.contains(event.target)) || always;
    });
  }
  document.addEventListener("keydown", (event) => {
    if (!active || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, summary, a")) return;
    const step = event.shiftKey ? 5 : 1;
    if (event.key === " " && event.target.closest("button, video")) return; // the browser answers it
    if (event.key === " ") active.toggle();
    else if (event.key === "ArrowLeft") active.seek(active.now() - step);
    else if (event.key === "ArrowRight") active.seek(active.now() + step);
    else return;
    event.preventDefault();
  });
})();
