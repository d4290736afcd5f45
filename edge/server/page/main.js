// The page: reads the server's settings and puts the parts together, as a chat or as a kiosk.

import { fetchSettings, untilReady } from "./api.js";
import { askText } from "./dialog.js";
import { drawIcons } from "./icons.js";
import { isEscape } from "./keys.js";
import { createLog } from "./log.js";
import { startChat } from "./personal.js";
import { startKiosk } from "./public.js";
import { openStore } from "./store.js";
import { chooseTheme } from "./theme.js";
import { chooseLanguage, translate, word } from "./words.js";

const KEY = "edge.key";
const RETRY = 2000; // milliseconds between two attempts to reach a server that is not there

const part = (id) => document.getElementById(id);

async function start() {
  drawIcons(document);
  chooseTheme("");
  chooseLanguage("");
  translate(document);
  refuseFiles();
  const server = await reach();
  notice("");
  document.documentElement.classList.toggle("kiosk", server.kiosk !== null);
  if (server.kiosk) startKiosk(server.kiosk, server, shared(openStore()));
  else startChat(server, shared(openStore(() => sessionStorage)));
  document.body.classList.remove("starting");
  if (!server.ready) {
    notice(word("loading"));
    await untilReady(new AbortController().signal);
    notice("");
  }
}

/** The server's settings, however long it takes to come up. */
async function reach() {
  for (;;) {
    try {
      return await fetchSettings();
    } catch {
      notice(word("unreachable"));
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }
}

/** What a chat and a kiosk need alike. session: a store that forgets when the page closes. */
function shared(session) {
  const key = {
    read: () => session.read(KEY),
    async ask() {
      const typed = await askText(word("keyTitle"), word("keyLabel"), "", "password");
      if (typed) session.write(KEY, typed);
      return typed !== null;
    },
  };
  return {
    part,
    notice,
    session,
    key,
    announce: (text) => (part("announcer").textContent = text),
    newLog: (actions) => createLog(part("scroller"), part("messages"), part("to-end"), actions),
    onEscape(act) {
      document.addEventListener("keydown", (event) => {
        if (isEscape(event) && !document.querySelector("dialog[open]")) act();
      });
    },
  };
}

function notice(text) {
  part("notice").textContent = text;
  part("notice").hidden = text === "";
}

/** A dropped file would open in the page's place. */
function refuseFiles() {
  const refuse = (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault();
  for (const name of ["dragover", "drop"]) document.addEventListener(name, refuse);
}

start();
