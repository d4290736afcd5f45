// The page on a public screen: one conversation, no settings, nothing kept, here or on the server.

import { wipeServer } from "./api.js";
import { createChat } from "./chat.js";
import { createComposer } from "./composer.js";
import { closeDoors, fillWelcome, wipeWhenIdle } from "./kiosk.js";
import { chooseLanguage, currentLanguage, translate } from "./words.js";

export function startKiosk(kiosk, server, { part, key, announce, newLog, onEscape }) {
  const actions = { plain: true };
  const fields = { model: server.model, ...(kiosk.max_tokens ? { max_tokens: kiosk.max_tokens } : {}) };

  const chat = createChat({
    log: newLog(actions),
    key,
    announce,
    changed: showState,
    request: () => ({ system: kiosk.system, fields }),
    keep: () => {},
  });
  Object.assign(actions, chat);
  const composer = createComposer(part("composer"), chat.ask, chat.stop);
  const stillHere = wipeWhenIdle(kiosk.idle_seconds, chat.running, wipe);
  let onServer = true; // something to forget is there, perhaps of a page that crashed

  function showState(conversation, running) {
    composer.setRunning(running);
    part("welcome").hidden = conversation.messages.length > 0;
    part("again").hidden = conversation.messages.length === 0;
    onServer ||= conversation.messages.length > 0;
    stillHere(); // the wait begins when the answer is there
  }

  function dress(language) {
    chooseLanguage(language);
    translate(document);
    chat.redraw();
  }

  function wipe() {
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    getSelection().removeAllRanges();
    composer.clear();
    chat.discard();
    announce("");
    dress(kiosk.language);
    forgetOnServer();
  }

  /** What the server did not hear, it is told again after the next wait. */
  async function forgetOnServer() {
    if (!onServer) return;
    onServer = false;
    if (!(await wipeServer(key.read()))) onServer = true;
  }

  document.title = kiosk.title || server.model;
  part("title").textContent = document.title;
  fillWelcome(part("welcome"), document.title, kiosk, chat.ask);
  part("language").hidden = kiosk.language !== null;
  part("language").addEventListener("click", () => dress(currentLanguage() === "zh" ? "en" : "zh"));
  part("again").addEventListener("click", wipe);
  onEscape(chat.stop);
  addEventListener("pagehide", wipe);
  closeDoors();
  wipe();
}
