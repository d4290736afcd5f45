"""A conversation as data: its messages, what may be undone, and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convert.errors import EdgeError


class ConversationError(EdgeError):
    """There is nothing to undo, or a file is no conversation or cannot be read or written."""


class Conversation:
    """Questions and answers in turn, perhaps after a system message.

    ``messages`` are what a chat template takes: ``{"role": "system" | "user" | "assistant", "content": text}``.
    """

    def __init__(self, system: str = "") -> None:
        self.system = well_formed(system)
        self.turns: list[tuple[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]

    def asking(self, question: str) -> list[dict[str, str]]:
        """The messages with a further question; the conversation stays as it is until the answer is added."""
        return [*self.messages, {"role": "user", "content": well_formed(question)}]

    def add(self, question: str, answer: str) -> None:
        self.turns.append((well_formed(question), answer))

    def undo(self) -> str:
        """Forget the last question and its answer; returns the question. Raises ConversationError."""
        if not self.turns:
            raise ConversationError("there is nothing to undo")
        return self.turns.pop()[0]

    def save(self, path: Path) -> None:
        """Write it as JSON. Only another conversation is replaced. Raises ConversationError."""
        if path.exists():
            try:
                load(path)
            except ConversationError:
                raise ConversationError(f"{path} is there and is no conversation", "choose another name") from None
        text = json.dumps({"messages": self.messages}, ensure_ascii=False, indent=1)
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConversationError(f"{path} cannot be written: {error.strerror or error}") from error


def load(path: Path) -> Conversation:
    """Read what ``save`` wrote. Raises ConversationError."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConversationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConversationError(f"{path} is not JSON") from error
    try:
        return from_json(value)
    except ConversationError as error:
        raise ConversationError(f"{path} is no conversation: {error.message}") from error


def from_json(value: Any) -> Conversation:
    """``{"messages": [...]}`` as a conversation. Raises ConversationError naming the message that is wrong."""
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list):
        raise ConversationError("it has no list of messages")
    has_system = bool(messages) and isinstance(messages[0], dict) and messages[0].get("role") == "system"
    texts = []
    for index, message in enumerate(messages):
        place = index - has_system
        role = "system" if place < 0 else ("user", "assistant")[place % 2]
        if not isinstance(message, dict) or message.get("role") != role or not isinstance(message.get("content"), str):
            raise ConversationError(f"message {index + 1} is not a text by {role}")
        texts.append(message["content"])
    conversation = Conversation(texts.pop(0) if has_system else "")
    if len(texts) % 2:
        raise ConversationError("the last question has no answer")
    for question, answer in zip(texts[::2], texts[1::2], strict=True):
        conversation.add(question, well_formed(answer))
    return conversation


def well_formed(text: str) -> str:
    """``text`` without lone surrogates: terminals and JSON may hold them, UTF-8 and tokenizers cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
