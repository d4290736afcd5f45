// Why an answer did not come, and the button that tries again.

import { h } from "./dom.js";
import { word } from "./words.js";

const WORDS = { busy: "problemBusy", context: "problemContext", cut: "problemCut", key: "problemKey" };

/** As it is kept with an answer; `until` is when the server wants to be asked again. */
export function problemOf(error) {
  if (!error.kind) return { kind: "server", detail: error.message, until: 0 };
  return { kind: error.kind, detail: error.detail, until: Date.now() + 1000 * error.seconds };
}

export const problemWords = (problem) => word(WORDS[problem.kind] ?? "problemServer");

export function showProblem(element, problem, retry) {
  element.hidden = problem === null;
  element.replaceChildren();
  if (problem === null) return;
  const button = h("button", { type: "button", className: "main retry", onclick: retry }, word("retry"));
  element.append(h("p", {}, problemWords(problem)), button);
  if (problem.detail) element.firstChild.after(h("p", { className: "detail", dir: "auto" }, problem.detail));
  if (problem.kind === "context") button.remove();
  countDown(button, problem.until);
}

function countDown(button, until) {
  const seconds = Math.ceil((until - Date.now()) / 1000);
  button.disabled = seconds > 0;
  button.textContent = seconds > 0 ? word("retryIn", { seconds }) : word("retry");
  if (seconds > 0) setTimeout(() => countDown(button, until), 500);
}
