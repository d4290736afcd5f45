"""Questions to contenders, in their order, through a cut; no model is needed, a server that is told what to say is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convert.errors import EdgeError
from edge.compare import sandbox
from edge.compare.contender import Contender, from_address
from edge.compare.run import compare
from edge.compare.suite import Check, Question, Suite
from tests.edge.compare.fake import Reply, fake, says

CAPITAL = Question("capital", ("Capital of France?",), check=Check("text", contains=("paris",)))
STORY = Question("story", ("Tell a story.",), rubric="short")
MEMORY = Question("memory", ("I am Li.", "Who am I?"), system="Be kind.", check=Check("text", contains=("Li",)))
OBJECT = Question(
    "object", ("An object.",), check=Check("schema", schema={"type": "object", "required": ["a"]}), constrained=True
)
TWICE = Question("twice", ("Again.",), twice=True)


def suite(*questions: Question, name: str = "mine") -> Suite:
    return Suite(name, "Mine", "", questions, "0" * 64)


def one_server(base: str, name: str = "one") -> Contender:
    return Contender(name, base, address=f"{base}#{name}")


def run(base: str, folder: Path, *questions: Question, **options: Any) -> dict[str, Any]:
    return compare([one_server(base)], [suite(*questions)], folder, **options)


def test_the_way_through(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        last = body["messages"][-1]["content"]
        if "response_format" in body:
            return says('{"a": 1}')
        return says({"Capital of France?": "It is Paris.", "Who am I?": "You are Li."}.get(last, "Well."))

    with fake(reply) as server:
        result = run(server.base, tmp_path, CAPITAL, STORY, MEMORY, OBJECT)
    by_key = {(one["question"], one["variant"]): one for one in result["answers"]}
    assert {key: one["score"] for key, one in by_key.items()} == {
        ("capital", "plain"): 1.0,
        ("story", "plain"): None,
        ("memory", "plain"): 1.0,
        ("object", "plain"): 0.0,
        ("object", "constrained"): 1.0,
    }
    assert by_key["memory", "plain"]["texts"] == ["Well.", "You are Li."]
    assert all(one["ttft"] > 0 and one["tokens"] and one["finish"] == "stop" for one in result["answers"])
    conversation = [one["content"] for one in server.asked[3]["messages"]]
    assert conversation == ["Be kind.", "I am Li.", "Well.", "Who am I?"]
    assert server.asked[-1]["response_format"]["json_schema"]["schema"] == {"type": "object", "required": ["a"]}
    assert json.loads(json.dumps(result)) == result
    assert [one["scored"] for one in result["suites"][0]["questions"]] == ["text", None, "text", "schema"]


def test_repeats_have_seeds_of_their_own_and_come_after_all_questions(tmp_path: Path) -> None:
    """A question that has just been answered is in the cache: its first token would come early."""
    with fake(lambda body: says("x")) as server:
        run(server.base, tmp_path, CAPITAL, STORY, repeats=2, seed=7)
    asked = [(one["messages"][-1]["content"], one["seed"], one["temperature"]) for one in server.asked]
    first, second = CAPITAL.turns[0], STORY.turns[0]
    assert asked == [(first, 7, 0.7), (second, 7, 0.7), (first, 8, 0.7), (second, 8, 0.7)]


def test_a_question_that_is_asked_twice(tmp_path: Path) -> None:
    with fake(lambda body: says("x")) as server:
        result = run(server.base, tmp_path, TWICE)
    assert [one["variant"] for one in result["answers"]] == ["first", "second"]
    assert server.asked[0] == server.asked[1]
    assert server.asked[0]["temperature"] == 0


def test_a_cut_comparison_goes_on(tmp_path: Path) -> None:
    class Cut(BaseException):
        pass

    def stop(what: str, done: int, of: int) -> None:
        if done == 2:
            raise Cut

    lines: list[str] = []
    with fake(lambda body: says("Paris, Li")) as server:
        with pytest.raises(Cut):
            run(server.base, tmp_path, CAPITAL, STORY, TWICE, on_progress=stop)
        assert len(server.asked) == 2
        result = run(server.base, tmp_path, CAPITAL, STORY, TWICE, tell=lines.append)
        assert len(server.asked) == 4
        assert len(result["answers"]) == 4 and lines == [
            "going on with 2 answers of an earlier run (--fresh begins anew)"
        ]
        run(server.base, tmp_path, CAPITAL, STORY, TWICE)  # whole: nothing is kept
    assert len(server.asked) == 8


def test_fresh_forgets(tmp_path: Path) -> None:
    def stop(what: str, done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with fake(lambda body: says("x")) as server:
        with pytest.raises(KeyboardInterrupt):
            run(server.base, tmp_path, CAPITAL, STORY, on_progress=stop)
        run(server.base, tmp_path, CAPITAL, STORY, fresh=True)
    assert len(server.asked) == 3


def test_a_refused_question_is_worth_nothing_and_the_next_is_asked(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == CAPITAL.turns[0]:
            return 400, b'{"error": {"message": "too long"}}'
        return says("x")

    with fake(reply) as server:
        result = run(server.base, tmp_path, CAPITAL, STORY)
    first, second = result["answers"]
    assert (first["score"], first["texts"]) == (0.0, []) and "too long" in first["error"]
    assert (second["score"], second["error"]) == (None, None)


def test_what_is_not_answered_counts_as_missed(tmp_path: Path) -> None:
    """Recall was that of the answered questions alone, so that a model gained by not answering."""
    verdict = Question("verdict", ("Is it?",), check=Check("fields", expected={"mail": True, "name": False}))
    with fake(lambda body: (400, b'{"error": {"message": "no"}}') if body["max_tokens"] > 1 else says("x")) as server:
        (answer,) = run(server.base, tmp_path, verdict)["answers"]
    assert answer["detail"] == {"tp": 0, "fp": 0, "fn": 1}
    assert answer["error"] == answer["why"] != ""


def test_a_server_that_is_gone_is_left_out_and_the_other_is_asked(tmp_path: Path) -> None:
    lines: list[str] = []
    with fake(lambda body: says("x")) as gone:
        pass
    with fake(lambda body: says("Paris")) as server:
        both = [one_server(gone.base, "gone"), one_server(server.base)]
        questions = [Question(str(number), ("x",)) for number in range(9)]
        result = compare(both, [suite(*questions)], tmp_path, tell=lines.append)
    assert "does not answer" in result["models"][0]["failed"] and result["models"][1]["failed"] is None
    assert {one["model"] for one in result["answers"]} == {1}, "who is not there has no answers, not wrong ones"
    assert len(lines) == 1 and lines[0].startswith("gone is left out: ")


def test_without_confinement_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "unconfined", lambda: "no Landlock here")
    code = suite(Question("f", ("f",), check=Check("tests", tests="def test_f(): ...")), name="code")
    lines: list[str] = []
    with fake(lambda body: says("x")) as server:
        result = compare([one_server(server.base)], [code, suite(STORY)], tmp_path, tell=lines.append)
        assert result["skipped"] == [{"suite": "code", "why": "no Landlock here"}]
        assert [one["suite"] for one in result["answers"]] == ["mine"]
        assert lines == ["the suite code is left out: no Landlock here"]
        with pytest.raises(EdgeError, match="nothing to ask: no Landlock here"):
            compare([one_server(server.base)], [code], tmp_path)


def test_a_server_says_what_it_has() -> None:
    with fake(lambda body: says("x")) as server:
        assert from_address(server.base).address == f"{server.base}#one"
    with fake(lambda body: says("x"), models=("a", "b")) as server:
        with pytest.raises(EdgeError, match="has 2 models"):
            from_address(server.base)
        assert from_address(f"{server.base}#b", "key").key == "key"


def test_a_model_that_is_called_by_its_path_has_no_folder_in_a_report() -> None:
    """llama-server's are."""
    found = from_address("http://127.0.0.1:1/v1#/home/li/qwen.gguf")
    assert (found.name, found.address) == ("qwen.gguf @ 127.0.0.1:1/v1", "http://127.0.0.1:1/v1#/home/li/qwen.gguf")
