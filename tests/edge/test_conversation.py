"""A conversation: what is asked, undone, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.conversation import Conversation, ConversationError, from_json, load

USER, ASSISTANT = {"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好！"}
SYSTEM = {"role": "system", "content": "Be brief."}


def talked() -> Conversation:
    conversation = Conversation("Be brief.")
    conversation.add("你好", "您好！")
    return conversation


def test_messages_are_what_a_template_takes() -> None:
    assert talked().messages == [SYSTEM, USER, ASSISTANT]
    assert Conversation().messages == []


def test_asking_leaves_the_conversation_as_it_is() -> None:
    conversation = talked()
    assert conversation.asking("more?") == [SYSTEM, USER, ASSISTANT, {"role": "user", "content": "more?"}]
    assert conversation.messages == [SYSTEM, USER, ASSISTANT]


def test_undo_takes_question_and_answer() -> None:
    conversation = talked()
    assert conversation.undo() == "你好" and conversation.messages == [SYSTEM]
    with pytest.raises(ConversationError, match="nothing to undo"):
        conversation.undo()


@pytest.mark.parametrize("conversation", [Conversation(), Conversation("x"), talked()])
def test_saved_and_loaded_is_the_same(conversation: Conversation, tmp_path: Path) -> None:
    conversation.save(tmp_path / "a.json")
    assert load(tmp_path / "a.json").messages == conversation.messages


def test_save_replaces_a_conversation_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    Conversation().save(path)
    talked().save(path)
    assert "你好" in path.read_text("utf-8")
    for other in ('{"name": 1}', "notes"):
        path.write_text(other)
        with pytest.raises(ConversationError, match="is no conversation; choose another name"):
            talked().save(path)
        assert path.read_text() == other


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match="cannot be read"):
        load(tmp_path / "none.json")
    with pytest.raises(ConversationError, match="cannot be written"):
        talked().save(tmp_path / "none" / "a.json")
    for text in ("", "{", "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ConversationError, match="is not JSON"):
            load(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'"\xff\xfe"')
    with pytest.raises(ConversationError, match="is not JSON"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "no list of messages"),
        ({"messages": "hi"}, "no list of messages"),
        ({"messages": [1]}, "message 1 is not a text by user"),
        ({"messages": [ASSISTANT]}, "message 1 is not a text by user"),
        ({"messages": [USER, USER]}, "message 2 is not a text by assistant"),
        ({"messages": [USER, ASSISTANT, SYSTEM]}, "message 3 is not a text by user"),
        ({"messages": [SYSTEM, SYSTEM]}, "message 2 is not a text by user"),
        ({"messages": [SYSTEM, USER]}, "the last question has no answer"),
        ({"messages": [{"role": "system", "content": None}]}, "message 1 is not a text by system"),
        ({"messages": [USER, {"role": "assistant"}]}, "message 2 is not a text by assistant"),
    ],
)
def test_what_is_no_conversation(value: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match=says):
        from_json(value)
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(ConversationError, match=f"is no conversation: .*{says}"):
        load(tmp_path / "a.json")


def test_lone_surrogates_never_reach_the_tokenizer() -> None:
    """A terminal gives bytes that are not UTF-8 as lone surrogates, and JSON may hold them."""
    loaded = from_json(
        {"messages": [{"role": "user", "content": "a\ud800"}, {"role": "assistant", "content": "\udcff"}]}
    )
    asked = loaded.asking("你\udce4")
    assert [message["content"] for message in asked] == ["a�", "�", "你�"]
    assert Conversation("\ud83d\ude00").system == "😀"  # two halves that belong together
