// Requests to the server. Every error is a Problem with the server's own words; `gone` says that no answer came.
export class Problem extends Error {
  constructor(text, status, answer = {}) {
    super(text);
    this.status = status;
    this.answer = answer;
    this.gone = status === 0;
  }
}

const address = (id) => id.split("/").map(encodeURIComponent).join("/");

async function ask(method, path, body) {
  const headers = { "X-Lofi-Studio": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem("The server does not answer.", 0);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const hint = response.status === 403 ? "Open the address that lofi studio printed when it started." : `Error ${response.status}.`;
  throw new Problem(answer.error || hint, response.status, answer);
}

export const get = async (path) => (await ask("GET", path)).json();
export const post = async (path, body = {}) => (await ask("POST", path, body)).json();
export const put = async (path, body) => (await ask("PUT", path, body)).json();

export const videoPath = (id, part) => `/api/videos/${address(id)}/${part}`;
export const thumbnail = (id) => `/thumb/${address(id)}`;

// The time of every frame on the player's clock, in seconds.
export async function frameTimes(id) {
  const response = await ask("GET", videoPath(id, "frames"));
  return new Float64Array(await response.arrayBuffer());
}

// Numbers questions. `const current = turn()` before one; after its answer, `current()` is false if a newer one was asked.
export function turns() {
  let last = 0;
  return () => {
    const mine = (last += 1);
    return () => mine === last;
  };
}

// Does `work` one call after the other, so that what is drawn last comes from the newest answer.
export function inOrder(work) {
  let last = Promise.resolve();
  return () => (last = last.catch(() => {}).then(work));
}

// Calls `heard` with every event, and `alive` with true or false when the connection opens or breaks. A browser gives up
// on a server that refuses, such as one that was started anew with another token; this does not.
export function listen(heard, alive) {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => alive(true));
  source.addEventListener("message", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    alive(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(heard, alive), 2000);
  });
}
