// A conversation: {id, title, changed, messages}. Pure functions; nothing here is changed in place.
//
// A question is {role: "user", content};
// an answer {role: "assistant", content, reasoning, calls, finish, stats, problem}.

const TITLE_LENGTH = 60;

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation() {
  return { id: newId(), title: "", changed: 0, messages: [] };
}

/** The conversation with a question at `index`; what stood there and after it is replaced. */
export function withQuestion(conversation, content, index = conversation.messages.length) {
  const messages = [...conversation.messages.slice(0, index), { role: "user", content }];
  return { ...conversation, title: conversation.title || titleOf(content), changed: Date.now(), messages };
}

export function withAnswer(conversation, answer) {
  return { ...conversation, changed: Date.now(), messages: [...conversation.messages, answer] };
}

/** The conversation up to the question that the answer at `index` belongs to. */
export function withoutAnswer(conversation, index) {
  return { ...conversation, messages: conversation.messages.slice(0, index) };
}

export function titleOf(question) {
  const line = question.trim().split("\n")[0].trim();
  const characters = Array.from(line);
  return characters.length > TITLE_LENGTH ? `${characters.slice(0, TITLE_LENGTH).join("")}…` : line;
}

/** As the API takes it. Thoughts are not sent back, nor an answer of which nothing came. */
export function requestMessages(conversation, system) {
  const said = conversation.messages
    .filter(({ content }) => content !== "")
    .map(({ role, content }) => ({ role, content }));
  return system ? [{ role: "system", content: system }, ...said] : said;
}

export function newAnswer() {
  return { role: "assistant", content: "", reasoning: "", calls: [], finish: null, stats: null, problem: null };
}

/** The answer after one event of streamAnswer(), which came `elapsed` milliseconds after the request. */
export function advanced(answer, event, elapsed) {
  if (event.usage) return { ...answer, stats: { ...answer.stats, ...statsOf(event, answer.stats, elapsed) } };
  if (!event.delta) return answer;
  const { content, reasoning_content: reasoning, tool_calls: fragments } = event.delta;
  const first = answer.stats || !(content || reasoning || fragments?.length) ? answer.stats : { firstToken: elapsed };
  const thinking = first && content && answer.reasoning && first.thinking === undefined;
  return {
    ...answer,
    content: answer.content + (content ?? ""),
    reasoning: answer.reasoning + (reasoning ?? ""),
    calls: (fragments ?? []).reduce(withFragment, answer.calls),
    finish: event.finish ?? answer.finish,
    stats: thinking ? { ...first, thinking: elapsed - first.firstToken } : first,
  };
}

function withFragment(calls, { index = 0, function: part = {} }) {
  const old = calls[index] ?? { name: "", arguments: "" };
  const call = { name: old.name + (part.name ?? ""), arguments: old.arguments + (part.arguments ?? "") };
  return Object.assign([...calls], { [Math.min(index, calls.length)]: call });
}

function statsOf({ usage, timings }, stats, elapsed) {
  const decoding = (elapsed - (stats?.firstToken ?? 0)) / 1000;
  return {
    tokens: usage.completion_tokens,
    perSecond: timings?.predicted_per_second ?? (decoding > 0 ? usage.completion_tokens / decoding : 0),
    prompt: usage.prompt_tokens,
    cached: timings?.cache_n ?? usage.prompt_tokens_details?.cached_tokens ?? 0,
  };
}

/** What a file or the browser's store holds, made a conversation; null where it is none. */
export function conversationFrom(value) {
  if (!Array.isArray(value?.messages)) return null;
  const messages = value.messages.map(messageFrom).filter(Boolean);
  if (messages.length === 0) return null;
  const id = typeof value.id === "string" && /^[\w-]{1,64}$/.test(value.id) ? value.id : newId();
  const changed = Number.isFinite(value.changed) ? value.changed : 0;
  return { id, title: text(value.title) || titleOf(messages[0].content), changed, messages };
}

function messageFrom(value) {
  if (value?.role === "user") return { role: "user", content: text(value.content) };
  if (value?.role !== "assistant") return null;
  const calls = Array.isArray(value.calls) ? value.calls : [];
  return {
    ...newAnswer(),
    content: text(value.content),
    reasoning: text(value.reasoning),
    calls: calls.map((call) => ({ name: text(call?.name), arguments: text(call?.arguments) })),
    finish: text(value.finish) || null,
    stats: statsFrom(value.stats),
    problem: value.problem ? { kind: text(value.problem.kind), detail: text(value.problem.detail), until: 0 } : null,
  };
}

function statsFrom(value) {
  if (value === null || typeof value !== "object") return null;
  return Object.fromEntries(Object.entries(value).filter(([, number]) => Number.isFinite(number)));
}

const text = (value) => (typeof value === "string" ? value : "");
