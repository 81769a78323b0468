// Changes of an entry, as functions: each takes an entry and returns a new one. No function here touches the page.
let count = 0;
export const freshId = () => `${Date.now().toString(36)}-${(count += 1).toString(36)}-${Math.random().toString(36).slice(2, 8)}`;

export const byStart = (a, b) => a.start - b.start || a.end - b.end;
const round = (time) => Math.round(time * 1e6) / 1e6;

// The action or draft with this id, and which of the two it is.
export function find(entry, id) {
  const action = entry.segments.find((one) => one.id === id);
  if (action) return { one: action, kind: "action" };
  const draft = entry.drafts.find((one) => one.id === id);
  return draft ? { one: draft, kind: "draft" } : { one: null, kind: null };
}

const withSegments = (entry, segments) => ({ ...entry, segments: [...segments].sort(byStart) });

export function add(entry, start, end, label, id = freshId()) {
  return withSegments(entry, [...entry.segments, { id, start: round(start), end: round(end), label }]);
}

export function remove(entry, id) {
  return { ...entry, segments: entry.segments.filter((one) => one.id !== id), drafts: entry.drafts.filter((one) => one.id !== id) };
}

// Changes times or class of an action or of a draft.
export function change(entry, id, values) {
  const clean = { ...values };
  for (const name of ["start", "end"]) if (name in clean) clean[name] = round(clean[name]);
  const renew = (one) => (one.id === id ? { ...one, ...clean } : one);
  return { ...withSegments(entry, entry.segments.map(renew)), drafts: entry.drafts.map(renew) };
}

export function split(entry, id, time) {
  const { one, kind } = find(entry, id);
  if (kind !== "action" || time <= one.start || time >= one.end) return null;
  const right = { ...one, id: freshId(), start: round(time) };
  const left = change(entry, id, { end: time });
  return withSegments(left, [...left.segments, right]);
}

// One action from this one and the next of its class.
export function merge(entry, id) {
  const { one, kind } = find(entry, id);
  if (kind !== "action") return null;
  const next = entry.segments.filter((other) => other.label === one.label && other.id !== id && byStart(one, other) <= 0).sort(byStart)[0];
  if (!next) return null;
  return change(remove(entry, next.id), id, { end: Math.max(one.end, next.end) });
}

// Drafts become actions; what they were, a model's or a file's, is no longer told.
export function accept(entry, ids) {
  const wanted = new Set(ids);
  const taken = entry.drafts.filter((one) => wanted.has(one.id)).map(({ id, start, end, label }) => ({ id, start, end, label }));
  return { ...withSegments(entry, [...entry.segments, ...taken]), drafts: entry.drafts.filter((one) => !wanted.has(one.id)) };
}

export function reject(entry, ids) {
  const wanted = new Set(ids);
  return { ...entry, drafts: entry.drafts.filter((one) => !wanted.has(one.id)) };
}

// Seconds of a time typed by hand: 75.2, 1:15.2 or 1:01:15.2; null for anything else.
export function parseTime(text) {
  if (!/^\s*(\d+:){0,2}\d+([.,]\d*)?\s*$/.test(text)) return null;
  return text.replace(",", ".").split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}

// The index of the last frame that starts at or before a time.
export function frameAt(frames, time) {
  let [low, high] = [0, frames.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (frames[middle] <= time + 1e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The frame edge nearest to a time, or the time itself where no frames are known.
export function snap(frames, time, end) {
  if (!frames.length) return time;
  const i = frameAt(frames, time);
  const next = i + 1 < frames.length ? frames[i + 1] : end;
  return next - time < time - frames[i] && next > frames[i] ? next : frames[i];
}

// Whether two entries say the same of a video; then nothing needs to be drawn.
const said = ({ state, subset, segments, drafts }) => JSON.stringify([state, subset,
  segments.map(({ id, start, end, label }) => [id, start, end, label]),
  drafts.map(({ id, start, end, label, score }) => [id, start, end, label, score])]);
export const same = (a, b) => said(a) === said(b);
