// Which key presses mean something. Enter and Escape also end the writing of a Chinese word, and then are not ours.

/** While an input method composes; Safari says so only by the old code 229. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

export const isSend = (event) => event.key === "Enter" && !event.shiftKey && !isComposing(event);

export const isEscape = (event) => event.key === "Escape" && !isComposing(event);
