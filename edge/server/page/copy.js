// Copying to the clipboard, also on plain http in a local network, where browsers hide the clipboard's own interface.

import { h } from "./dom.js";
import { word } from "./words.js";

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = h("textarea", { value: text, className: "visually-hidden" });
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    focused?.focus();
  }
}

/** A button that copies what `text` gives, and says for a moment that it did. */
export function copyButton(name, text, ...children) {
  const label = word(name);
  const button = h("button", { type: "button", className: "small", title: label, "aria-label": label }, ...children);
  button.addEventListener("click", async () => {
    await copyText(text());
    button.dataset.said = word("copied");
    setTimeout(() => delete button.dataset.said, 1500);
  });
  return button;
}
