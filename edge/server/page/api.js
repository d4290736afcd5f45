// What the page asks of the server: its settings, an answer as a stream of events, and to forget.

import { serverEvents } from "./sse.js";

/** An answer that did not come, or not to its end. kind: key, loading, busy, context, cut, server. */
export class Problem extends Error {
  constructor(kind, detail = "", seconds = 0) {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
    this.seconds = seconds;
  }
}

export async function fetchSettings(signal) {
  const response = await fetch("/page/settings.json", { cache: "no-store", signal });
  if (!response.ok) throw new Problem("server", `HTTP ${response.status}`);
  return response.json();
}

/** Resolves when the model is there. */
export async function untilReady(signal) {
  for (;;) {
    await pause(1500, signal);
    try {
      if ((await fetchSettings(signal)).ready) return;
    } catch (error) {
      if (signal.aborted) throw error; // else the server is starting again: go on asking
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Yields {queue}, {prefill: [done, all]}, {delta, finish} and {usage, timings}; throws a Problem.
 * Aborting stops the answer on the server.
 */
export async function* streamAnswer(body, key, signal) {
  const response = await post(body, key, signal);
  try {
    for await (const { data, comment } of serverEvents(response.body)) {
      if (comment !== undefined) yield* progress(comment);
      else if (data === "[DONE]") return;
      else yield* chunkEvents(JSON.parse(data));
    }
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
    throw new Problem("cut");
  }
  throw new Problem("cut");
}

/** Has the server of a kiosk forget what was asked; gives whether it did. The page may close meanwhile. */
export async function wipeServer(key) {
  try {
    return (await fetch("/kiosk/wipe", { ...withBody({}, key), keepalive: true })).ok;
  } catch {
    return false;
  }
}

function withBody(body, key) {
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  return { method: "POST", headers, body: JSON.stringify(body) };
}

async function post(body, key, signal) {
  let response;
  try {
    response = await fetch("/v1/chat/completions", { ...withBody(body, key), signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem("cut");
  }
  if (!response.ok) throw await refusal(response, signal);
  return response;
}

async function refusal(response, signal) {
  const text = await response.text();
  const error = parsed(text)?.error ?? {};
  const detail = error.message ?? `HTTP ${response.status}`;
  if (response.status === 401) return new Problem("key", detail);
  if (error.code === "context_length_exceeded") return new Problem("context", detail);
  if (response.status !== 429 && response.status !== 503) return new Problem("server", detail);
  if (response.status === 503 && !(await isReady(signal))) return new Problem("loading", detail);
  return new Problem("busy", detail, retrySeconds(response.headers.get("Retry-After")));
}

async function isReady(signal) {
  try {
    return (await fetchSettings(signal)).ready;
  } catch (error) {
    if (signal.aborted) throw error;
    return true;
  }
}

/** Retry-After is a number of seconds or a date. */
function retrySeconds(header) {
  const seconds = /^\d+$/.test(header ?? "") ? Number(header) : (Date.parse(header ?? "") - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(600, Math.max(0, Math.ceil(seconds))) : 5;
}

function* progress(comment) {
  const [, kind, first, second] = /^(prefill|queue) (\d+)(?:\/(\d+))?/.exec(comment) ?? [];
  if (kind === "queue") yield { queue: Number(first) };
  if (kind === "prefill" && second) yield { prefill: [Number(first), Number(second)] };
}

function* chunkEvents(chunk) {
  if (chunk.error) throw new Problem("server", chunk.error.message ?? "");
  const choice = chunk.choices?.[0];
  if (choice) yield { delta: choice.delta ?? {}, finish: choice.finish_reason ?? null };
  if (chunk.usage) yield { usage: chunk.usage, timings: chunk.timings ?? null };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
