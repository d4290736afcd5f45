// The field for a question, with its buttons to send and to stop.

import { isSend } from "./keys.js";

/** root: the form of index.html. Gives {setRunning, clear}. */
export function createComposer(root, onSend, onStop) {
  const field = root.querySelector("textarea");
  const send = root.querySelector(".send");
  const stop = root.querySelector(".stop");
  let running = false;

  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`; // the style sheet sets the largest
    send.disabled = field.value.trim() === "";
  };
  const clear = () => {
    field.value = "";
    fit();
  };

  root.addEventListener("submit", (event) => {
    event.preventDefault();
    const question = field.value;
    if (running || question.trim() === "") return;
    clear();
    onSend(question);
  });
  field.addEventListener("keydown", (event) => {
    if (!isSend(event)) return;
    event.preventDefault();
    root.requestSubmit();
  });
  field.addEventListener("input", fit);
  stop.addEventListener("click", onStop);
  fit();

  return {
    clear,
    setRunning(now) {
      running = now;
      const lost = document.activeElement === (now ? send : stop);
      send.hidden = now;
      stop.hidden = !now;
      if (lost) (now ? stop : field).focus();
    },
  };
}
