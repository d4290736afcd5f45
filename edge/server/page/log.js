// The list of messages: shows a conversation, lets an answer grow at most once a frame, and follows its end.

import { answerView, questionView } from "./message.js";

const NEAR = 24; // pixels from the end that still count as being there

/** actions: {edit(message, text), again(message), plain: whether to leave out copying and editing}. */
export function createLog(scroller, list, toEnd, actions) {
  let views = new WeakMap(); // message -> element
  let following = true;

  const follow = () => {
    if (following) scroller.scrollTop = scroller.scrollHeight;
    toEnd.hidden = following;
  };
  const goToEnd = () => {
    following = true;
    follow();
  };
  scroller.addEventListener("scroll", () => {
    following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight <= NEAR;
    toEnd.hidden = following;
  });
  toEnd.addEventListener("click", () => {
    goToEnd();
    scroller.focus({ preventScroll: true });
  });
  new ResizeObserver(follow).observe(scroller);

  function elementOf(message) {
    if (!views.has(message)) views.set(message, newElement(message));
    return views.get(message);
  }

  function newElement(message) {
    if (message.role === "user") return questionView(message, actions);
    const view = answerView(actions);
    view.finish(message);
    return view.element;
  }

  /** An answer that streams: {element, update(answer, progress), finish(answer), spoken()}. */
  function begin() {
    const view = answerView(actions);
    let frame = 0;
    let newest = null;
    const draw = () => {
      frame = 0;
      view.update(...newest);
      follow();
    };
    list.append(view.element);
    list.setAttribute("aria-busy", "true");
    return {
      element: view.element,
      spoken: view.spoken,
      update(...values) {
        newest = values;
        frame ||= requestAnimationFrame(draw);
      },
      finish(answer) {
        cancelAnimationFrame(frame);
        view.finish(answer);
        views.set(answer, view.element);
        list.removeAttribute("aria-busy");
        follow();
      },
    };
  }

  /** live: the element of an answer that is on its way, if one is. */
  function render(messages, live) {
    const wanted = [...messages.map(elementOf), ...(live ? [live] : [])];
    wanted.forEach((element, index) => {
      const there = list.children[index] ?? null;
      if (there !== element) list.insertBefore(element, there);
    });
    while (list.children.length > wanted.length) list.lastElementChild.remove();
    follow();
  }

  /** After this, all elements are made anew: in another language. */
  const forget = () => {
    views = new WeakMap();
  };

  return { begin, forget, goToEnd, render };
}
