// The talk with the model: which conversation is shown, and the one answer that may be on its way.

import { streamAnswer, untilReady } from "./api.js";
import { advanced, newAnswer, newConversation, requestMessages } from "./conversation.js";
import { withAnswer, withoutAnswer, withQuestion } from "./conversation.js";
import { waitWords } from "./message.js";
import { problemOf, problemWords } from "./problem.js";
import { word } from "./words.js";

const SPOKEN = 1000; // characters of an answer that a screen reader gets unasked

/**
 * log: from log.js. request(): {system, fields} of the next request. key: {read(), ask()}.
 * changed(conversation, running): what is shown has changed. keep(conversation): it should outlive the page.
 */
export function createChat({ log, request, key, changed, keep, announce }) {
  let conversation = newConversation();
  let run = null; // {controller, asked, answer, view} while an answer is on its way

  function put(next) {
    conversation = next;
    log.render(next.messages, run?.view.element);
    changed(next, run !== null);
  }

  /** reason: "stopped", and what came so far is kept, or "discarded". */
  function halt(reason) {
    run?.controller.abort(reason);
    run = null;
  }

  async function answer() {
    const mine = { controller: new AbortController(), asked: conversation, answer: newAnswer(), view: log.begin() };
    run = mine;
    keep(conversation);
    changed(conversation, true);
    announce("");
    log.goToEnd();
    const problem = await attempts(mine);
    if (run === mine) run = null;
    if (mine.controller.signal.reason !== "discarded") settle(mine, problem);
  }

  function settle({ controller, asked, answer: partial, view }, problem) {
    const stopped = controller.signal.aborted;
    const whole = { ...partial, finish: stopped ? "stopped" : partial.finish, problem: stopped ? null : problem };
    const shown = conversation.id === asked.id;
    const next = withAnswer(shown ? conversation : asked, whole); // it may have another title by now
    view.finish(whole);
    keep(next);
    if (!shown) return;
    put(next);
    announce(endWords(whole, view.spoken()));
  }

  /** Asks until there is an answer, or a problem that neither waiting nor a key solves. */
  async function attempts(mine) {
    const { signal } = mine.controller;
    for (;;) {
      const problem = await attempt(mine);
      if (signal.aborted) return problem;
      if (problem?.kind === "loading") {
        mine.view.update(mine.answer, { loading: true });
        await untilReady(signal).catch(() => {}); // fails only when stopped
      } else if (problem?.kind !== "key" || !(await key.ask())) {
        return problem;
      }
      if (signal.aborted) return problem;
    }
  }

  /** One request; gives the problem, or null. */
  async function attempt(mine) {
    const { system, fields } = request();
    const messages = requestMessages(mine.asked, system);
    const body = { ...fields, messages, stream: true, stream_options: { include_usage: true } };
    const started = performance.now();
    let said = "";
    const show = (progress) => {
      mine.view.update(mine.answer, progress);
      const words = waitWords(progress);
      if (words !== "" && words !== said) announce((said = words));
    };
    mine.answer = newAnswer();
    show({});
    try {
      for await (const event of streamAnswer(body, key.read(), mine.controller.signal)) {
        mine.answer = advanced(mine.answer, event, performance.now() - started);
        show(event);
      }
      return null;
    } catch (error) {
      return problemOf(error);
    }
  }

  function endWords({ problem, finish }, text) {
    if (problem) return problemWords(problem);
    if (finish === "stopped") return word("finishStopped");
    return word("answerFinished", { text: text.slice(0, SPOKEN) });
  }

  return {
    ask(question) {
      put(withQuestion(conversation, question));
      answer();
    },
    edit(message, question) {
      halt("discarded");
      put(withQuestion(conversation, question, conversation.messages.indexOf(message)));
      answer();
    },
    again(message) {
      halt("discarded");
      put(withoutAnswer(conversation, conversation.messages.indexOf(message)));
      answer();
    },
    /** Shows another conversation; an answer on its way stops, and what came of it is kept. */
    show(next) {
      halt("stopped");
      put(next);
      log.goToEnd();
    },
    rename(title) {
      keep({ ...conversation, title });
      put({ ...conversation, title });
    },
    stop: () => run?.controller.abort("stopped"),
    /** Forgets what is shown, and what would still come of it. */
    discard() {
      halt("discarded");
      put(newConversation());
    },
    /** Keeps the half answer when the page goes away. */
    leave() {
      if (!run) return;
      keep(withAnswer(run.asked, { ...run.answer, finish: "stopped" }));
      run.controller.abort("stopped"); // before the browser cuts it, which would be told as a problem
    },
    redraw() {
      log.forget();
      log.render(conversation.messages, run?.view.element);
    },
    running: () => run !== null,
    current: () => conversation,
  };
}
