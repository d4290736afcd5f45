"""What people type, and which model it means."""

from __future__ import annotations

import pytest

from edge.errors import ModelNotFound
from edge.lock import Lock, LockedModel, Source
from edge.lock_file import read_lock, shipped_path
from edge.names import resolve


@pytest.fixture(scope="module")
def shipped() -> Lock:
    return read_lock(shipped_path())


@pytest.mark.parametrize(
    ("typed", "repo"),
    [
        ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        (" QWEN2.5:7b-instruct ", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("qwen2.5-coder:1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct"),
        ("glm-4-9b", "zai-org/glm-4-9b-chat"),
        ("glm-4-9b-chat", "zai-org/glm-4-9b-chat"),
        ("glm-4-9b-chat-hf", "zai-org/glm-4-9b-chat-hf"),
        ("glm-4-9b-0414", "zai-org/GLM-4-9B-0414"),
        ("chatglm3-6b", "zai-org/chatglm3-6b"),
        ("qwen-7b-chat", "Qwen/Qwen-7B-Chat"),
        ("qwen:7b", "Qwen/Qwen-7B-Chat"),
        ("qwen3-4b", "Qwen/Qwen3-4B"),
        ("qwen3-4b-instruct-2507", "Qwen/Qwen3-4B-Instruct-2507"),
        ("qwen3:30b-a3b", "Qwen/Qwen3-30B-A3B"),
        ("qwen/qwen3-0.6b", "Qwen/Qwen3-0.6B"),
        ("ZhipuAI/GLM-4-9B-0414", "zai-org/GLM-4-9B-0414"),
        ("THUDM/chatglm3-6b", "zai-org/chatglm3-6b"),
    ],
)
def test_what_people_type(shipped: Lock, typed: str, repo: str) -> None:
    assert resolve(typed, shipped).sources[0].repo == repo


@pytest.mark.parametrize(
    ("typed", "nearest"), [("qwen2.5-8b", "qwen2.5-7b"), ("gwen3-4b", "qwen3-4b"), ("chatglm3", "chatglm3-6b")]
)
def test_an_unknown_name_suggests_the_nearest(shipped: Lock, typed: str, nearest: str) -> None:
    with pytest.raises(ModelNotFound, match=f"no model is called {typed!r}; did you mean .*{nearest}"):
        resolve(typed, shipped)


@pytest.mark.parametrize("typed", ["", "chat", "zzzzzz", "qwen2.5-7b-base\n\x1b[31m" + "x" * 50])
def test_a_name_like_nothing_is_still_one_line(shipped: Lock, typed: str) -> None:
    with pytest.raises(ModelNotFound, match="no model is called") as caught:
        resolve(typed, shipped)
    assert str(caught.value).isprintable()


def test_a_repository_needs_no_entry(shipped: Lock) -> None:
    made = resolve("Some-One/My_Model-7B", shipped, hub="modelscope")
    assert made == LockedModel("some-one--my_model-7b", sources=(Source("modelscope", "Some-One/My_Model-7B"),))


def test_a_base_model_is_not_taken_for_the_one_that_answers(shipped: Lock) -> None:
    """Qwen/Qwen2.5-7B would be checked against the hashes of the Instruct model."""
    assert resolve("Qwen/Qwen2.5-7B", shipped).files == ()


def test_a_name_with_two_meanings_asks() -> None:
    lock = {name: LockedModel(name) for name in ("org--a-chat", "org--a-instruct")}
    assert resolve("org--A-Chat", lock).name == "org--a-chat"
    with pytest.raises(ModelNotFound, match="did you mean org--a-chat or org--a-instruct"):
        resolve("org--a", lock)


@pytest.mark.parametrize("typed", ["a/b/c", "/a", "a/", "../x", "org/..", "org/a b", "https://x/y", "a/" + "b" * 99])
def test_what_is_no_repository_is_refused(shipped: Lock, typed: str) -> None:
    with pytest.raises(ModelNotFound, match="write it as org/repo"):
        resolve(typed, shipped)
