// The list of conversations, beside the chat or, on a narrow screen, as a drawer over it.

import { conversationFrom, newId } from "./conversation.js";
import { askText, askYes } from "./dialog.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { isEscape } from "./keys.js";
import { word } from "./words.js";

/** actions: open, remove and add a conversation, rename(title) the current one, and failed() to read a file. */
export function createSidebar(root, actions) {
  const list = root.querySelector("ul");
  const file = root.querySelector("input[type=file]");
  root.querySelector(".import").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    const conversation = conversationFrom(await readJson(file.files[0]));
    file.value = "";
    if (conversation) actions.add({ ...conversation, id: newId(), changed: Date.now() });
    else actions.failed();
  });

  return {
    show(conversations, currentId) {
      const focused = list.contains(document.activeElement);
      list.replaceChildren(...conversations.map((one) => row(one, one.id === currentId, actions)));
      if (focused) list.querySelector("[aria-current]")?.focus();
    },
  };
}

function row(conversation, current, actions) {
  const open = h("button", { type: "button", className: "title", dir: "auto" }, conversation.title);
  open.title = conversation.title;
  open.addEventListener("click", () => actions.open(conversation));
  if (!current) return h("li", {}, open);
  open.setAttribute("aria-current", "true");
  const rename = button("edit", "rename", async () => {
    const title = await askText(word("rename"), word("title"), conversation.title);
    if (title) actions.rename(title);
  });
  const remove = button("delete", "delete", async () => {
    if (await askYes(word("deleteQuestion", conversation), word("delete"))) actions.remove(conversation);
  });
  const keep = button("export", "exportFile", () => save(conversation));
  return h("li", { className: "current" }, open, rename, keep, remove);
}

function button(iconName, name, onclick) {
  const label = word(name);
  const properties = { type: "button", className: `small ${name}`, title: label, "aria-label": label, onclick };
  return h("button", properties, icon(iconName));
}

function save(conversation) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(conversation, null, 2)], { type: "application/json" }));
  const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  h("a", { href: url, download: `${name || "chat"}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the browser is still reading it
}

async function readJson(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    return null;
  }
}

/** On a narrow screen the sidebar is shut until the menu button opens it, and nothing in it takes the focus. */
export function wireDrawer(root, beside, menu, shade) {
  const narrow = matchMedia("(max-width: 56rem)");
  const set = (open) => {
    document.body.classList.toggle("drawer-open", open);
    menu.setAttribute("aria-expanded", String(open));
    root.inert = narrow.matches && !open;
    beside.inert = open;
    shade.hidden = !open;
  };
  const shut = () => {
    if (!document.body.classList.contains("drawer-open")) return;
    set(false);
    menu.focus();
  };
  menu.addEventListener("click", () => {
    set(true);
    root.querySelector("button").focus();
  });
  shade.addEventListener("click", shut);
  root.addEventListener("keydown", (event) => isEscape(event) && shut());
  narrow.addEventListener("change", () => set(false));
  set(false);
  return { shut };
}
