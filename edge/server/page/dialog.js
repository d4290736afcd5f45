// Small questions to the person: a line of text, or yes or no.

import { word } from "./words.js";

/** Resolves to the text, or null where it was cancelled. type: "text" or "password". */
export function askText(title, label, value = "", type = "text") {
  return ask(title, word("save"), (field, caption) => {
    caption.textContent = label;
    Object.assign(field, { value, type, required: true });
  });
}

export async function askYes(question, yes) {
  const hide = (field) => Object.assign(field, { value: "yes", type: "hidden", required: false });
  return (await ask(question, yes, hide)) !== null;
}

function ask(title, accept, prepare) {
  const dialog = document.getElementById("ask");
  const field = dialog.querySelector("input");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector(".main").textContent = accept;
  dialog.querySelector("label span").textContent = "";
  prepare(field, dialog.querySelector("label span"));
  dialog.showModal();
  field.select();
  return new Promise((resolve) => {
    const done = new AbortController();
    const listen = (element, event, act) => element.addEventListener(event, act, { signal: done.signal });
    let answer = null;
    listen(dialog.querySelector("form"), "submit", (event) => {
      event.preventDefault();
      answer = field.value.trim();
      dialog.close();
    });
    listen(dialog.querySelector(".cancel"), "click", () => dialog.close());
    listen(dialog, "close", () => {
      done.abort();
      field.value = ""; // a key stays in no field
      resolve(answer || null);
    });
  });
}
