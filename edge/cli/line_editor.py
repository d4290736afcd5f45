"""Where a person types to the model: several lines, history in memory alone."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import is_searching
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

keys = KeyBindings()


@keys.add("enter", filter=~is_searching)
def end(event: KeyPressEvent) -> None:
    """Enter sends, but for a line that ends in a backslash."""
    buffer = event.current_buffer
    if buffer.document.text_before_cursor.endswith("\\"):
        buffer.delete_before_cursor()
        buffer.newline(copy_margin=False)
    else:
        buffer.validate_and_handle()


@keys.add("escape", "enter", filter=~is_searching)
def go_on(event: KeyPressEvent) -> None:
    event.current_buffer.newline(copy_margin=False)


@keys.add("c-c", filter=~is_searching)
def clear(event: KeyPressEvent) -> None:
    event.current_buffer.reset()


def line_editor() -> Callable[[], str]:
    """What reads one question. It raises EOFError for Ctrl-D."""
    session: PromptSession[str] = PromptSession(
        "> ",
        multiline=True,
        prompt_continuation="  ",
        history=InMemoryHistory(),
        key_bindings=keys,
    )
    return session.prompt
