"""Tokenizer files with anything in any place: a line of words, never a traceback."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.checkpoint import Checkpoint
from convert.errors import EdgeError
from convert.tokenizer import template_note, tokenizer_metadata
from convert.writer import header_bytes
from tests.checkpoints import build, read_json
from tests.convert.test_tokenizer import edit_tokenizer, keys_of, template
from tests.tokenizer_files import KINDS, checkpoint, impure_tokens, pieces


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return build(tmp_path / "qwen", layers=1)


JUNK = [None, 5, -1, 10**30, 1.5, True, "", "x", "\ud800", "9" * 5000, [], [1], [[1]], [None], {}, {"id": 5}, {"x": []}]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of some JSON, of long lists and objects to the first few."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [at, *(place for key, one in entries[:8] for place in places(one, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], junk: Any) -> Any:
    """A copy with ``junk`` at the path ``at``."""
    if not at:
        return junk
    items = value.items() if isinstance(value, dict) else enumerate(value)
    copy = {key: replaced(one, at[1:], junk) if key == at[0] else one for key, one in items}
    return copy if isinstance(value, dict) else list(copy.values())


@functools.cache
def whole(kind: str) -> Path:
    """A checkpoint with every part of the tokenizer files that is read."""
    folder = Path(tempfile.mkdtemp())
    if kind == "json":
        build(folder, family="glm4", layers=1, template="named")
        steps = [template("[gMASK]", "<sop>"), {"type": "ByteLevel"}]
        edit_tokenizer(folder, lambda c: c.update(post_processor={"type": "Sequence", "processors": steps}))
        return folder
    n = len(pieces()) if kind == "chatglm3" else len(impure_tokens())
    decoder = {str(n + 1): {"content": "[gMASK]", "special": True}, str(n + 20): {"content": "<mine>"}}
    files = {**KINDS[kind].files, "tokenizer_config__json": {"added_tokens_decoder": decoder, "chat_template": "x"}}
    checkpoint(folder, {"eos_token_id": [2], "_name_or_path": "x", "text_config": {"eos_token_id": 2}}, **files)
    return folder


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["json", "glm-4", "chatglm3"])
def test_junk_for_any_value_of_any_file(kind: str, data: st.DataObject) -> None:
    """``processors: null``, ``added_tokens: 5``, a key of 5000 digits, half a surrogate pair: all gave tracebacks."""
    folder = whole(kind)
    files = sorted(path.name for path in folder.glob("*.json") if path.name != "model.safetensors.index.json")
    contents = {name: read_json(folder / name) for name in files}
    name = data.draw(st.sampled_from(files))
    at = data.draw(st.sampled_from(places(contents[name])[1:]))
    contents[name] = replaced(contents[name], at, data.draw(st.sampled_from(JUNK)))
    found = Junk(folder, contents["config.json"], {}, contents=contents)
    try:
        tokenizer = tokenizer_metadata(found, 1200, KINDS["glm-4"].fallback)
    except EdgeError as error:
        assert "\n" not in str(error)
    else:
        assert header_bytes(tokenizer, [])
        template_note(found)


@dataclass
class Junk(Checkpoint):
    """A checkpoint whose JSON files hold something else."""

    contents: dict[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> dict[str, Any]:
        return self.contents.get(name, {})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lambda c: c.update(post_processor={"type": "Sequence", "processors": None})),
        ("tokenizer.json", lambda c: c.update(post_processor={"type": "TemplateProcessing", "single": 5})),
        (
            "tokenizer.json",
            lambda c: c.update(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": "x"}]}),
        ),
        ("tokenizer.json", lambda c: c.update(pre_tokenizer={"type": "Sequence", "pretokenizers": None})),
        ("tokenizer.json", lambda c: c.update(added_tokens=5)),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update({"\ud800": c["model"]["vocab"].pop("a")})),
        ("tokenizer.json", lambda c: c["model"]["merges"].append("\ud800 a")),
        ("tokenizer.json", lambda c: c["added_tokens"].append({"id": 722, "content": ""})),
        ("tokenizer_config.json", lambda c: c.update(added_tokens_decoder=[1])),
        ("tokenizer_config.json", lambda c: c.update(added_tokens_decoder={"9" * 5000: {"content": "x"}})),
        ("tokenizer_config.json", lambda c: c.update(chat_template="\ud800")),
    ],
)
def test_damage_is_said_in_a_line_that_names_the_file(name: str, change: Any, qwen: Path) -> None:
    """Each of these ended in a TypeError, an AttributeError or a UnicodeEncodeError."""
    content = read_json(qwen / name)
    change(content)
    (qwen / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EdgeError, match=re.escape(name)):
        keys_of(qwen)
