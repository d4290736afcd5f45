"""``edge chat``: a conversation in the terminal, or one question a line from a pipe."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.errors import EdgeError
from edge import store
from edge.cli.answering import ensure_converted, show, speed_text, thinking
from edge.cli.common import command_options, models_dir_option
from edge.cli.model_options import engine_and_answer, model_options, think_option
from edge.conversation import Conversation, load
from edge.text import terminal_safe

if TYPE_CHECKING:
    from edge.api import Engine
    from edge.engine.types import Timings


@click.command("chat")
@click.argument("model")
@click.option("-s", "--system", default="", help="System message.")
@models_dir_option
@command_options
@think_option
@model_options
def chat_command(model: str, system: str, models_dir: Path | None, think: str | None, **given: Any) -> None:
    """Talk with MODEL. From a pipe, each line is a question."""
    from edge.api import Engine

    engine, answer = engine_and_answer(given)
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    path = ensure_converted(model, store.models_dir(models_dir), quiet=not is_terminal)
    with Engine(path, slots=1, models_dir=models_dir, **engine) as llm:
        chat = Chat(llm, Conversation(system), answer, is_terminal)
        if think:
            chat.set_thinking(think)
        if is_terminal:
            click.secho("/help lists the commands, /exit ends", dim=True)
            talk(chat)
        elif not all([chat.try_to(chat.ask, line) for line in piped_lines()]):
            sys.exit(1)


class Chat:
    """A conversation with a model. ``options`` go to each ``Engine.chat``.

    ``in_terminal``: thoughts and speeds are shown, and Ctrl-C stops an answer and not the program.
    """

    def __init__(self, llm: Engine, conversation: Conversation, options: dict[str, Any], in_terminal: bool) -> None:
        self.llm, self.conversation, self.options, self.in_terminal = llm, conversation, options, in_terminal
        self.variables: dict[str, bool] = {}  # the template's
        self.thinking_budget: int | None = None
        self.timings: list[Timings] = []

    def handle(self, text: str) -> None:
        """Do a command or answer a question. Raises EOFError for /exit, EdgeError for what is wrong."""
        if not text.startswith("/"):
            return self.ask(text)
        name, *rest = text.split(maxsplit=1)
        if name not in COMMANDS:
            raise EdgeError(f"there is no command {name}", "/help lists them; a space before it makes it a question")
        COMMANDS[name][0](self, "".join(rest).strip())

    def try_to(self, do: Callable[[str], None], text: str) -> bool:
        """False where it fails, which is told in one line: the chat goes on."""
        try:
            do(text)
        except EdgeError as error:
            click.echo(f"error: {error}", err=True)
            return False
        return True

    def ask(self, question: str) -> None:
        """Print the answer as it comes. A stopped answer is kept as far as it got."""
        stream = self.llm.chat(
            self.conversation.asking(question),
            variables=self.variables,
            thinking_budget=self.thinking_budget,
            **self.options,
        )
        with interrupt_calls(stream.cancel) if self.in_terminal else nullcontext():
            result = show(stream, thoughts=self.in_terminal)
        self.timings.append(result.timings)
        if result.text:
            self.conversation.add(question, result.text)
        if self.in_terminal:
            tell(speed_text(result))
            if not result.text:
                tell("there was no answer, so the question is not kept")

    def set_system(self, text: str) -> None:
        self.conversation.system = text
        tell("the system message is set" if text else "there is no system message now")

    def undo(self, _: str) -> None:
        tell(f"forgotten: {self.conversation.undo()}")

    def save(self, name: str) -> None:
        self.conversation.save(file_path(name))
        tell(f"saved to {name}")

    def load(self, name: str) -> None:
        self.conversation = load(file_path(name))
        tell(f"loaded: {len(self.conversation.turns)} questions and answers")

    def set_thinking(self, choice: str) -> None:
        self.variables, self.thinking_budget = thinking(self.llm.model.chat_template, choice)

    def think(self, choice: str) -> None:
        self.set_thinking(choice)
        budget = self.thinking_budget
        tell(f"thinking is {choice}" if budget is None else f"thinking ends after {budget} tokens")

    def stats(self, _: str) -> None:
        tell(stats_text(self.timings, self.llm.ctx))

    def help(self, _: str) -> None:
        for name, (_do, argument, what) in COMMANDS.items():
            tell(f"{name + ' ' + argument:<14} {what}")
        tell("Alt-Enter, or a \\ at the end: a new line. Ctrl-C stops an answer, Ctrl-D ends the chat.")

    def exit(self, _: str) -> None:
        raise EOFError


COMMANDS: dict[str, tuple[Callable[[Chat, str], None], str, str]] = {
    "/system": (Chat.set_system, "TEXT", "set the system message; without TEXT remove it"),
    "/undo": (Chat.undo, "", "forget the last question and its answer"),
    "/save": (Chat.save, "FILE", "write the conversation as JSON"),
    "/load": (Chat.load, "FILE", "go on with a saved conversation"),
    "/think": (Chat.think, "on|off|N", "whether the model thinks before it answers, or how many tokens at most"),
    "/stats": (Chat.stats, "", "tokens and speed so far"),
    "/help": (Chat.help, "", "this list"),
    "/exit": (Chat.exit, "", "end the chat"),
}


def talk(chat: Chat) -> None:
    """The loop in a terminal, until /exit or Ctrl-D."""
    from edge.cli.line_editor import line_editor

    read = line_editor()
    while True:
        try:
            if (text := read()).strip():
                chat.try_to(chat.handle, text)
        except KeyboardInterrupt:  # between an answer and the prompt
            click.echo()
        except EOFError:
            return


@contextmanager
def interrupt_calls(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop`` in place of raising KeyboardInterrupt: the answer then ends as any other does."""
    previous = signal.signal(signal.SIGINT, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def piped_lines() -> Iterator[str]:
    for line in sys.stdin.buffer if sys.stdin is not None else ():
        if text := line.decode("utf-8", "replace").strip():
            yield text


def file_path(name: str) -> Path:
    if not name:
        raise EdgeError("the name of the file is missing")
    return Path(name).expanduser()


def tell(text: str) -> None:
    click.secho(terminal_safe(text), dim=True)


def stats_text(timings: list[Timings], ctx: int) -> str:
    """One line: tokens of all answers so far, seconds, and what the last one takes of the context."""
    if not timings:
        return f"no answers yet; the context has {ctx} tokens"
    read, cached = sum(one.prompt_tokens for one in timings), sum(one.cached_tokens for one in timings)
    written = sum(one.generated_tokens for one in timings)
    prefill, decode = sum(one.prefill for one in timings), sum(one.decode for one in timings)
    used = timings[-1].prompt_tokens + timings[-1].generated_tokens
    return (
        f"answers: {len(timings)}; {read} tokens in ({cached} cached) in {prefill:.1f} s, "
        f"{written} out in {decode:.1f} s; {used} of {ctx} tokens of the context in use"
    )
