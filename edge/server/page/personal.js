// The page on a person's own machine: many conversations, kept in the browser, and settings.

import { createChat } from "./chat.js";
import { createComposer } from "./composer.js";
import { newConversation } from "./conversation.js";
import { readOptions, requestFields, wireSettings } from "./settings.js";
import { createSidebar, wireDrawer } from "./sidebar.js";
import { conversations, isConversationKey, openStore } from "./store.js";
import { keepConversation, readConversation, removeConversation } from "./store.js";
import { chooseTheme } from "./theme.js";
import { chooseLanguage, translate, word } from "./words.js";

const CURRENT = "edge.current"; // the conversation that a reload shows again

export function startChat(server, { part, notice, session, key, announce, newLog, onEscape }) {
  const store = openStore(() => localStorage);
  const actions = {};
  let options = readOptions(store);

  const chat = createChat({
    log: newLog(actions),
    key,
    announce,
    changed: showState,
    request: () => ({ system: options.system, fields: requestFields(options, server) }),
    keep: (conversation) => notice(keepConversation(store, conversation) ? "" : word("notKept")),
  });
  Object.assign(actions, chat);
  const composer = createComposer(part("composer"), chat.ask, chat.stop);
  const drawer = wireDrawer(part("sidebar"), part("chat"), part("menu"), part("shade"));
  const sidebar = createSidebar(part("sidebar"), {
    open({ id }) {
      const conversation = readConversation(store, id);
      if (conversation && id !== chat.current().id) chat.show(conversation);
      drawer.shut();
    },
    remove({ id }) {
      removeConversation(store, id);
      chat.discard();
    },
    add(conversation) {
      keepConversation(store, conversation);
      chat.show(conversation);
    },
    rename: chat.rename,
    failed: () => notice(word("importFailed")),
  });

  function showState(conversation, running) {
    session.write(CURRENT, conversation.id);
    composer.setRunning(running);
    part("welcome").hidden = conversation.messages.length > 0;
    part("title").textContent = conversation.title || word("newChat");
    document.title = conversation.title || server.model;
    showList();
  }

  function showList() {
    sidebar.show(conversations(store), chat.current().id);
  }

  /** Puts on the chosen colours and words. */
  function dress() {
    chooseTheme(options.theme);
    chooseLanguage(options.language);
    translate(document);
    part("welcome").querySelector("h2").textContent = word("welcome");
    part("welcome").querySelector("p").textContent = word("welcomeHint", server);
    part("model").textContent = [server.model, server.quant].filter(Boolean).join(" · ");
    chat.redraw();
    showState(chat.current(), chat.running());
  }

  part("thinking-field").hidden = !server.thinks;
  wireSettings(part("settings"), part("settings-open"), store, (next) => {
    options = next;
    dress();
  });
  part("new").addEventListener("click", () => {
    chat.show(newConversation());
    drawer.shut();
    part("question").focus();
  });
  onEscape(chat.stop);
  window.addEventListener("storage", (event) => isConversationKey(event.key) && showList());
  window.addEventListener("pagehide", chat.leave);
  chat.show(readConversation(store, session.read(CURRENT)) ?? newConversation());
  dress();
  part("question").focus();
}
