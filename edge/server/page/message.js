// One message as elements: a question, which can be edited, or an answer, which grows.

import { copyButton } from "./copy.js";
import { h, patch } from "./dom.js";
import { icon } from "./icons.js";
import { prettyJson } from "./json.js";
import { isEscape, isSend } from "./keys.js";
import { codeBlock, markdownView } from "./markdown.js";
import { showProblem } from "./problem.js";
import { languageOf, word } from "./words.js";

export function questionView(message, actions) {
  const text = h("div", { className: "text", dir: "auto", lang: languageOf(message.content) }, message.content);
  const buttons = h("div", { className: "actions" });
  const element = h("li", { className: "message question" }, hidden("you"), text, buttons);
  if (!actions.plain) buttons.append(iconButton("edit", edit), copyButton("copy", () => message.content, icon("copy")));
  return element;

  function edit() {
    const field = h("textarea", { value: message.content, rows: 3, "aria-label": word("editQuestion"), dir: "auto" });
    const cancel = h("button", { type: "button", className: "plain" }, word("cancel"));
    const form = h("form", { className: "editing" }, field, cancel, h("button", { className: "main" }, word("send")));
    const close = () => {
      form.replaceWith(text, buttons);
      buttons.firstChild.focus();
    };
    cancel.addEventListener("click", close);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() !== "") actions.edit(message, field.value);
    });
    field.addEventListener("keydown", (event) => {
      if (isSend(event)) {
        event.preventDefault();
        form.requestSubmit();
      } else if (isEscape(event)) {
        event.stopPropagation(); // it ends the editing, not an answer
        close();
      }
    });
    text.replaceWith(form);
    buttons.remove();
    field.focus();
  }
}

/** {element, update(answer, status), finish(answer)}: update while it streams, finish when it is whole. */
export function answerView(actions) {
  const status = h("p", { className: "status" });
  const summary = h("summary");
  const thoughts = h("div", { className: "markdown", dir: "auto" });
  const thinking = h("details", { className: "thinking", hidden: true }, summary, thoughts);
  const body = h("div", { className: "markdown body", dir: "auto" });
  const calls = h("div", { className: "calls" });
  const problem = h("div", { className: "problem", hidden: true });
  const buttons = h("div", { className: "actions" });
  const parts = [hidden("answer"), status, thinking, body, calls, problem, buttons];
  const element = h("li", { className: "message answer" }, ...parts);
  const showThoughts = markdownView(thoughts);
  const showBody = markdownView(body);
  let shownCalls = [];

  function update(answer, progress) {
    showStatus(status, answer, progress);
    thinking.hidden = answer.reasoning === "";
    summary.textContent = thinkingWords(answer, progress !== null);
    showThoughts(answer.reasoning);
    showBody(progress === null ? asReadable(answer.content) : answer.content);
    const nodes = answer.calls.flatMap(callNodes);
    patch(calls, shownCalls, nodes);
    shownCalls = nodes;
    body.lang = languageOf(answer.content);
    if (!actions.plain) addCopyButtons(element);
  }

  function finish(answer) {
    update(answer, null);
    showProblem(problem, answer.problem, () => actions.again(answer));
    buttons.replaceChildren();
    if (!actions.plain && answer.content) buttons.append(copyButton("copy", () => answer.content, icon("copy")));
    if (!answer.problem) buttons.append(iconButton("regenerate", () => actions.again(answer)));
    const stats = statsWords(answer);
    if (stats && !actions.plain) buttons.append(h("span", { className: "stats" }, stats));
  }

  return { element, update, finish, spoken: () => body.textContent };
}

function showStatus(element, answer, progress) {
  const waiting = progress && !answer.content && !answer.reasoning && answer.calls.length === 0;
  element.hidden = !waiting;
  if (!waiting) return;
  const words = statusWords(progress);
  element.textContent = words;
  if (!progress.prefill) return;
  const [value, max] = progress.prefill;
  element.append(h("progress", { max, value, "aria-label": words }));
}

function statusWords({ loading, prefill, queue }) {
  if (loading) return word("waitingLoading");
  if (prefill) return word("prefill", { percent: Math.floor((100 * prefill[0]) / Math.max(1, prefill[1])) });
  if (queue === undefined) return word("waiting");
  return queue > 0 ? word("queue", { ahead: queue }) : word("queueNext");
}

/** What to say aloud of a wait; that the question is read, but not each percent of it. */
export function waitWords(progress) {
  if (progress.prefill) return word("reading");
  return progress.queue === undefined ? "" : statusWords(progress);
}

function thinkingWords(answer, streams) {
  const milliseconds = answer.stats?.thinking;
  if (milliseconds === undefined) return streams ? word("thinkingNow") : word("thoughts");
  return word("thinkingDone", { seconds: (milliseconds / 1000).toFixed(1) });
}

function callNodes(call) {
  const name = { tag: "p", attributes: { class: "call" }, children: [word("toolCall", { name: call.name })] };
  return [name, codeBlock(prettyJson(call.arguments) ?? call.arguments, "json")];
}

/** An answer that is JSON and nothing else is shown as such. */
function asReadable(content) {
  const json = /^\s*[[{]/.test(content) ? prettyJson(content) : null;
  return json === null ? content : `~~~~json\n${json}\n~~~~`;
}

function addCopyButtons(element) {
  for (const figure of element.querySelectorAll("figure.code:not(.ready)")) {
    figure.classList.add("ready");
    figure.append(copyButton("copyCode", () => figure.querySelector("code").textContent, icon("copy")));
  }
}

function statsWords({ stats, finish }) {
  const parts = [];
  if (finish === "length") parts.push(word("finishLength"));
  if (finish === "stopped") parts.push(word("finishStopped"));
  if (stats?.perSecond) parts.push(word("statsSpeed", { speed: stats.perSecond.toFixed(1) }));
  if (stats?.firstToken) parts.push(word("statsFirst", { seconds: (stats.firstToken / 1000).toFixed(2) }));
  if (stats?.tokens) parts.push(word("statsTokens", stats));
  if (stats?.prompt) parts.push(word(stats.cached ? "statsCached" : "statsPrompt", stats));
  return parts.join(" · ");
}

const hidden = (name) => h("h2", { className: "visually-hidden" }, word(name));

function iconButton(name, onclick) {
  const label = word(name);
  const properties = { type: "button", className: `small ${name}`, title: label, "aria-label": label, onclick };
  return h("button", properties, icon(name));
}
