// What every page with a timeline needs, reports and studio alike. Labels come from users: they enter the page as
// textContent only.
export const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
export const clock = (seconds, digits = 2) => {
  const unit = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * unit) / unit;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};
export const counted = (count, unit) => `${count} ${unit}${count === 1 ? "" : unit.endsWith("s") ? "es" : "s"}`;
export const figure = (score) => (score >= 0.01 || score === 0 ? score.toFixed(3) : score.toPrecision(2));
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const tiou = (a, b) => {
  const inner = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  const outer = Math.max(a.end, b.end) - Math.min(a.start, b.start);
  return inner > 0 ? inner / outer : 0;
};
// First fit by falling score: the best segments lie on top, and no two in a row overlap.
export const stack = (segments) => {
  const rows = [];
  for (const one of [...segments].sort((a, b) => b.score - a.score || a.start - b.start)) {
    let place = rows.findIndex((row) => row.every((other) => one.start >= other.end || one.end <= other.start));
    if (place < 0) place = rows.push([]) - 1;
    rows[place].push(one);
  }
  return rows;
};
// The length in seconds between two marks of an axis on which `room` marks have room.
export const tick = (span, room) => {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  return steps.find((step) => span / step <= room) || Math.ceil(span / room / 3600) * 3600;
};
