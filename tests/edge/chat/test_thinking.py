"""Thoughts, apart from the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.chat.output import Answer, Content, PlainParser, Reasoning, collect
from edge.chat.thinking import ThinkingParser, ends_inside_thoughts
from tests.edge.chat.answers import calls, events, read

INSIDE = "<|im_start|>assistant\n<think>\n"
CLOSED = "<|im_start|>assistant\n<think>\n\n</think>\n\n"

# (end of the prompt, what the model writes) -> what it means
ANSWERS = {
    ("", "<think>\nHm.\n</think>\n\n2"): Answer("2", "Hm."),
    ("", "\n<think>Hm.</think>\n2\n"): Answer("2\n", "Hm."),
    ("", "<think>\n\n</think>\n\n2"): Answer("2"),
    ("", "<think></think>"): Answer(),
    ("", "2"): Answer("2"),
    ("", ""): Answer(),
    ("", "<thin"): Answer("<thin"),
    ("", "<thinking>"): Answer("<thinking>"),
    ("", "2 <think>Hm.</think>"): Answer("2 <think>Hm.</think>"),
    ("", "Hm.</think>2"): Answer("Hm.</think>2"),
    ("", "<think>a</think>b<think>c</think>d"): Answer("b<think>c</think>d", "a"),
    ("", "<think>a <think> b</think>c"): Answer("c", "a <think> b"),
    ("", "<think>\nHm.\n\nSo </thi"): Answer("", "Hm.\n\nSo </thi"),
    ("", "<think>"): Answer(),
    ("", "<think>\n\n  x  \n\n</think>\n\n    y"): Answer("    y", "  x  "),
    (INSIDE, "Hm.\n</think>\n\n2"): Answer("2", "Hm."),
    (INSIDE, "\nHm.\n"): Answer("", "Hm."),
    (INSIDE, "</think>2"): Answer("2"),
    (INSIDE, "<think>\nHm.</think>2"): Answer("2", "Hm."),
    (INSIDE, "<thi"): Answer("", "<thi"),
    (INSIDE, ""): Answer(),
    (CLOSED, "2"): Answer("2"),
    (CLOSED, "2</think>"): Answer("2</think>"),
}


@pytest.mark.parametrize(("prompt", "text"), ANSWERS)
def test_what_is_read(prompt: str, text: str) -> None:
    for cut in (False, True):
        for name in ("qwen3", "qwen3.5", "glm-4.6"):
            assert read(name, text, prompt=prompt, tools=None, cut=cut) == ANSWERS[prompt, text]


def test_calls_are_made_after_the_thoughts_only() -> None:
    call = '<tool_call>\n{"name": "nothing"}\n</tool_call>'
    assert read("qwen3", f"<think>\n{call}\n</think>\n\n{call}") == calls(("nothing", "{}"), reasoning=call)


def test_a_family_without_thoughts() -> None:
    text = "\n<think>\nHm.\n</think>\n\n2 "
    assert read("qwen2.5", text) == read("plain", text) == Answer(text)
    assert read("plain", "Hm.</think>2", prompt=INSIDE) == Answer("2", "Hm.")  # the caller's own beginning


def test_thoughts_come_at_once() -> None:
    parser = ThinkingParser(PlainParser(), thinks=True)
    fed = ["<thi", "nk>\n", "Hm", " <", "b\n", "</think>\n", "\n2", " "]
    told = [[], [], [Reasoning("Hm")], [Reasoning(" ")], [Reasoning("<b")], [], [Content("2")], [Content(" ")]]
    assert [parser.feed(text) for text in fed] == told


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "\n", " "]) | st.text(max_size=4), max_size=12),
    st.booleans(),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_any_cut_of_anything_and_nothing_lost(pieces: list[str], inside: bool, ends: list[int]) -> None:
    text = "".join(pieces)
    ends = sorted(min(end, len(text)) for end in ends)
    cuts = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]

    def answer(given: list[str]) -> Answer:
        return collect(events(ThinkingParser(PlainParser(), thinks=True, inside=inside), given))

    whole = answer([text])
    assert answer(cuts) == answer(list(text)) == whole
    rest = text.lstrip()
    begun = rest.startswith("<think>")
    thoughts, _, content = rest.removeprefix("<think>").partition("</think>")
    if begun or inside:
        given = thoughts if begun else text.partition("</think>")[0]
        assert whole == Answer(content.lstrip("\n"), given.strip("\n"))
    else:
        assert whole == Answer(text)


@given(st.lists(st.text(max_size=5)))
def test_plain_is_plain(pieces: list[str]) -> None:
    assert collect(events(PlainParser(), pieces)) == Answer("".join(pieces))


def test_how_a_prompt_ends() -> None:
    assert ends_inside_thoughts(INSIDE) and ends_inside_thoughts("<|assistant|><think>")
    assert not ends_inside_thoughts(CLOSED) and not ends_inside_thoughts("<think> what?<|im_end|>\n")
