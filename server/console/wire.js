// @ts-check
/** The console's only way to the server: the public API, JSON and server-sent events. */

/** @typedef {{ event: string, id: string | null, data: any }} Frame */
/** @typedef {"live" | "cut"} Connection */

// Relative to this file, so that it also holds behind a mount prefix.
const ROOT = new URL("../", import.meta.url).href;
const API_KEY = "interlock.key";
const SILENCE_MS = 20_000; // The server sends a heartbeat every 5 s; longer silence is a dead connection.
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 10_000;

/** The server answered and said no. */
export class Refused extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** No answer came: the network is down, or the server is. */
export class Unreachable extends Error {}

/** @returns {string} */
export function apiKey() {
  return sessionStorage.getItem(API_KEY) ?? "";
}

/** Kept for this tab only. @param {string} key */
export function setApiKey(key) {
  if (key) sessionStorage.setItem(API_KEY, key);
  else sessionStorage.removeItem(API_KEY);
}

/** A random UUID; `crypto.randomUUID` exists in secure contexts only, and a LAN address is none. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
async function send(method, path, { body, headers = {}, signal } = {}) {
  const all = new Headers(headers);
  if (apiKey()) all.set("x-api-key", apiKey());
  if (body !== undefined) all.set("content-type", "application/json");
  let response;
  try {
    response = await fetch(ROOT + path, {
      method, headers: all, signal, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("The server cannot be reached.");
  }
  if (response.ok) return response;
  if ([429, 502, 503, 504].includes(response.status)) {
    throw new Unreachable(`The server is not ready (${response.status}).`);
  }
  throw new Refused(response.status, await detail(response));
}

/** @param {Response} response */
async function detail(response) {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return body.detail ?? body.message ?? body.error ?? text;
  } catch {
    return text || response.statusText;
  }
}

/**
 * One request, one JSON answer; null where the server answers without a body.
 * @param {string} method @param {string} path @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function call(method, path, body) {
  const response = await send(method, path, { body });
  return response.status === 202 || response.status === 204 ? null : response.json();
}

/**
 * One page of a search, with how many there are in all.
 * @param {string} path @param {unknown} body
 * @returns {Promise<{ items: any[], total: number }>}
 */
export async function search(path, body) {
  const response = await send("POST", path, { body });
  const items = await response.json();
  return { items, total: Number(response.headers.get("x-pagination-total") ?? items.length) };
}

/**
 * A new run, followed to its end. The idempotency key lets the request be sent again after a cut.
 * @param {string} threadId @param {Record<string, unknown>} request
 * @param {{ signal: AbortSignal, connection: (state: Connection) => void, started: (runId: string) => void }} options
 */
export function startRun(threadId, request, { signal, connection, started }) {
  const headers = { "idempotency-key": uuid() };
  const open = () => send("POST", `threads/${threadId}/runs/stream`, { body: request, headers, signal });
  return follow(threadId, { open, runId: null, cursor: "-1", signal, connection, started });
}

/**
 * An existing run, from its first event.
 * @param {string} threadId @param {string} runId
 * @param {{ signal: AbortSignal, connection: (state: Connection) => void }} options
 */
export function joinRun(threadId, runId, { signal, connection }) {
  return follow(threadId, { open: null, runId, cursor: "-1", signal, connection, started: () => {} });
}

/**
 * The frames of a run, each once: after a cut it comes back with the id of the last one.
 * @param {string} threadId
 * @param {{ open: (() => Promise<Response>) | null, runId: string | null, cursor: string, signal: AbortSignal,
 *   connection: (state: Connection) => void, started: (runId: string) => void }} reader
 * @returns {AsyncGenerator<Frame>}
 */
async function* follow(threadId, { open, runId, cursor, signal, connection, started }) {
  let failures = 0;
  for (;;) {
    try {
      const response = runId === null && open !== null ? await open() : await rejoin();
      if (runId === null) {
        runId = (response.headers.get("content-location") ?? "").split("/runs/")[1];
        started(runId);
      }
      connection("live");
      for await (const frame of frames(response)) {
        failures = 0;
        cursor = frame.id ?? cursor;
        if (frame.event !== "end") yield frame;
        if (frame.event === "end" || frame.event === "error") return;
      }
      if (await isOver()) return;
    } catch (error) {
      if (signal.aborted || !(error instanceof Unreachable)) throw error;
    }
    connection("cut");
    await pause(Math.min(FIRST_WAIT_MS * 2 ** failures++, LONGEST_WAIT_MS), signal);
  }

  function rejoin() {
    const path = `threads/${threadId}/runs/${runId}/stream`;
    return send("GET", path, { headers: { "last-event-id": cursor }, signal });
  }

  /** A closed stream is the end only if the run is over. */
  async function isOver() {
    const run = await call("GET", `threads/${threadId}/runs/${runId}`);
    return run.status !== "pending" && run.status !== "running";
  }
}

/**
 * Reads server-sent events until the server closes.
 * @param {Response} response
 * @returns {AsyncGenerator<Frame>}
 */
async function* frames(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const lines = new Lines();
  let frame = blank();
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read());
      if (done) return;
      for (const line of lines.add(value)) {
        if (line !== "") {
          read(frame, line);
          continue;
        }
        if (frame.text.length) yield { event: frame.event, id: frame.id, data: JSON.parse(frame.text.join("\n")) };
        frame = blank();
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // The connection may be gone already; there is nothing left to free.
  }
}

/** @returns {{ event: string, id: string | null, text: string[] }} */
function blank() {
  return { event: "message", id: null, text: [] };
}

/** @param {ReturnType<typeof blank>} frame @param {string} line */
function read(frame, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // A comment: the heartbeat.
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "event") frame.event = value;
  else if (name === "id") frame.id = value;
  else if (name === "data") frame.text.push(value);
}

/** Cuts bytes into lines; what is read once is not searched again, however long a line grows. */
class Lines {
  #decoder = new TextDecoder();
  /** @type {string[]} */
  #open = [];

  /** @param {Uint8Array} bytes @returns {string[]} */
  add(bytes) {
    const parts = this.#decoder.decode(bytes, { stream: true }).split("\n");
    this.#open.push(parts[0]);
    if (parts.length === 1) return [];
    const whole = [this.#open.join(""), ...parts.slice(1, -1)];
    this.#open = [parts[parts.length - 1]];
    return whole.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  }
}

/** @template T @param {Promise<T>} reading @returns {Promise<T>} */
function inTime(reading) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Unreachable("The connection went silent.")), SILENCE_MS);
    const broken = () => reject(new Unreachable("The connection broke."));
    reading.then(resolve, broken).finally(() => clearTimeout(timer));
  });
}

/** Waits, but not longer than until the network is back. @param {number} ms @param {AbortSignal} signal */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener("online", finish);
      signal.removeEventListener("abort", finish);
      if (signal.aborted) reject(signal.reason);
      else resolve(undefined);
    };
    const timer = setTimeout(finish, ms);
    addEventListener("online", finish);
    signal.addEventListener("abort", finish);
  });
}
