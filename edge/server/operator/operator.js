// How the server is, for who looks after it. The key is in this page's memory alone, and never in an address.

import { h } from "/page/dom.js";
import { wipeWhenIdle } from "/page/kiosk.js";
import { chooseTheme } from "/page/theme.js";
import { chooseLanguage, currentLanguage } from "/page/words.js";
import { rowsOf } from "./rows.js";
import { word } from "./words.js";

const EVERY = 3000; // milliseconds between two looks
const FORGOTTEN = 900; // seconds without a touch, after which the key is asked for again

const part = (id) => document.getElementById(id);
const field = part("enter").querySelector("input");
let key = "";
let timer = 0;
let shown = null;

async function look() {
  clearTimeout(timer);
  const mine = key;
  const answer = await ask(mine);
  if (mine === "" || mine !== key) return; // locked meanwhile
  if (answer === "refused") {
    lock();
    notice("wrongKey");
    return;
  }
  if (answer === null) notice("unreachable");
  else show(answer);
  timer = setTimeout(look, EVERY);
}

/** The state; "refused", or null where no answer came. */
async function ask(mine) {
  if (!/^[!-~]+$/.test(mine)) return "refused"; // no header can carry it
  try {
    const headers = { Authorization: `Bearer ${mine}` };
    const response = await fetch("/operator/status", { headers, cache: "no-store" });
    if (response.status === 401) return "refused";
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

function show(told) {
  shown = told;
  notice("");
  part("enter").hidden = true;
  part("cards").hidden = part("lock").hidden = false;
  for (const [id, rows] of Object.entries(rowsOf(told))) fill(part(id), rows);
  const lines = told.kiosk?.log ?? [];
  part("log").hidden = lines.length === 0;
  fillList(part("log").querySelector("ol"), lines);
}

/** Changes only what is different: a text that somebody reads or selects stays. */
function fill(list, rows) {
  const texts = rows.flat();
  if (list.children.length !== texts.length) {
    list.replaceChildren(...texts.map((_, index) => h(index % 2 === 0 ? "dt" : "dd")));
  }
  texts.forEach((text, index) => write(list.children[index], text));
}

function fillList(list, lines) {
  if (list.children.length !== lines.length) list.replaceChildren(...lines.map(() => h("li")));
  lines.forEach((line, index) => write(list.children[index], line));
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function lock() {
  clearTimeout(timer);
  key = "";
  shown = null;
  notice("");
  for (const list of document.querySelectorAll("dl, ol")) list.replaceChildren();
  part("cards").hidden = part("lock").hidden = true;
  part("enter").hidden = false;
  field.value = "";
  field.focus();
}

function notice(name) {
  part("notice").textContent = name && word(name);
  part("notice").hidden = name === "";
}

function dress(language) {
  chooseLanguage(language);
  document.title = word("title");
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  if (shown) show(shown);
}

part("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key = field.value.trim();
  field.value = ""; // a key stays in no field
  if (key) look();
});
part("lock").addEventListener("click", lock);
part("language").addEventListener("click", () => dress(currentLanguage() === "zh" ? "en" : "zh"));
addEventListener("pagehide", lock);
wipeWhenIdle(FORGOTTEN, () => false, lock);
chooseTheme("");
dress("");
field.focus();
