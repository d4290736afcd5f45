// A public screen: preset questions in big letters, and everything forgotten when nobody touches it for a while.

import { h } from "./dom.js";

const SIGNS_OF_LIFE = ["pointerdown", "touchmove", "wheel", "keydown", "input"]; // a mouse may tremble by itself

/** Fills the welcome screen of index.html with the kiosk's own words and questions. */
export function fillWelcome(welcome, title, kiosk, ask) {
  welcome.querySelector("h2").textContent = title;
  welcome.querySelector("p").textContent = kiosk.welcome;
  const buttons = kiosk.questions.map((question) => {
    return h("button", { type: "button", className: "preset", dir: "auto", onclick: () => ask(question) }, question);
  });
  welcome.querySelector(".presets").replaceChildren(...buttons);
}

/**
 * Calls `wipe` after `seconds` without a touch or a key, but not while `busy()`.
 * Gives a function that starts the wait again.
 */
export function wipeWhenIdle(seconds, busy, wipe) {
  let timer = 0;
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (busy() ? restart() : wipe()), seconds * 1000);
  };
  for (const sign of SIGNS_OF_LIFE) document.addEventListener(sign, restart, { capture: true, passive: true });
  restart();
  return restart;
}

/** No way out of the page, and none into it: no links, no menus, nothing dragged or dropped. */
export function closeDoors() {
  const refuse = (event) => event.preventDefault();
  for (const name of ["contextmenu", "dragstart", "dragover", "drop"]) document.addEventListener(name, refuse);
  const refuseLinks = (event) => event.target.closest?.("#messages a") && event.preventDefault();
  for (const name of ["click", "auxclick"]) document.addEventListener(name, refuseLinks, true);
}
