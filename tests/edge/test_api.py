"""``edge.Engine`` on the embedded tiny models."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import edge
from convert import gguf_file
from convert.errors import EdgeError
from convert.pipeline import convert
from edge import machine, tuned
from edge.answer import Reader, Result
from edge.api import Engine, Stream, read_all
from edge.chat.output import PlainParser
from edge.constrain import ConstraintError, ConstraintSpec
from edge.engine.types import EngineError, Event, Finished, RequestError, Timings, Token
from edge.errors import MemoryShort
from edge.llama.context import Context
from edge.llama.sampler import SamplingError
from edge.tuned import Tuned
from tests.edge import tiny_gguf

NAMES = ("tiny-qwen", "tiny-glm")
HELLO = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module", params=NAMES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / f"{request.param}.gguf"
    convert(Path(str(files("edge.models") / request.param)), {"Q8_0": path})
    return path


@pytest.fixture(scope="module")
def llm(path: Path) -> Iterator[Engine]:
    with Engine(path, slots=4) as engine:
        yield engine


def test_a_streamed_answer_is_the_whole_one(llm: Engine) -> None:
    stream = llm.chat(HELLO, temperature=0, max_tokens=30)
    text = "".join(delta.text for delta in stream)
    assert text == stream.result.text == llm.chat(HELLO, temperature=0, max_tokens=30).result.text
    assert text and stream.result.finish_reason in ("stop", "length")
    timings = stream.result.timings
    assert timings.generated_tokens == len(stream.result.tokens) > 0
    assert timings.prompt_tokens > timings.cached_tokens and timings.prefill > 0 <= timings.decode
    assert timings.first_token == timings.queue + timings.prefill


def test_the_package_gives_the_engine() -> None:
    assert edge.Engine is Engine


def test_one_question_after_another_reuses_the_conversation(llm: Engine) -> None:
    first = llm.chat(HELLO, temperature=0, max_tokens=8).result
    talk = [*HELLO, {"role": "assistant", "content": first.text}, {"role": "user", "content": "再说一遍"}]
    assert llm.chat(talk, temperature=0, max_tokens=4).result.timings.cached_tokens >= 3


def test_texts_are_continued_in_their_order(llm: Engine) -> None:
    prompts = ["你好", "Where is", "1 + 1 =", "The", "A", "今天"]
    together = llm.generate(prompts, temperature=0, max_tokens=6, progress=True)
    assert [one.tokens[:2] for one in together] == [
        llm.generate([prompt], temperature=0, max_tokens=6)[0].tokens[:2] for prompt in prompts
    ]
    assert llm.generate([]) == []


@pytest.mark.parametrize("prompts", ["one text", [b"x"], [None]])
def test_prompts_are_a_list_of_texts(llm: Engine, prompts: Any) -> None:
    """A single text was continued letter by letter."""
    with pytest.raises(TypeError, match="a list of texts"):
        llm.generate(prompts)


def test_stop_strings_tokens_and_the_end(llm: Engine) -> None:
    whole = llm.chat(HELLO, temperature=0, max_tokens=12, ignore_eos=True).result
    assert len(whole.tokens) == 12 and whole.finish_reason == "length"
    assert not llm.model.end_tokens & set(whole.tokens)
    early = llm.chat(HELLO, temperature=0, stop_tokens=[whole.tokens[2]], ignore_eos=True).result
    assert early.tokens == whole.tokens[: whole.tokens.index(whole.tokens[2])] and early.finish_reason == "stop"
    stop = whole.text[2:4]
    for given in ([stop], stop):
        cut = llm.chat(HELLO, temperature=0, stop=given, max_tokens=12, ignore_eos=True).result
        assert cut.text == whole.text[: whole.text.index(stop)] and cut.stopped == stop


def test_logprobs_and_bias(llm: Engine) -> None:
    result = llm.chat(HELLO, temperature=0, max_tokens=5, logprobs=3).result
    assert len(result.logprobs) == len(result.tokens)
    for token, one in zip(result.tokens, result.logprobs, strict=True):
        assert one and len(one.top) == 3 and one.top[0] == (token, one.logprob), "greedy takes the likeliest"
    banned = llm.chat(HELLO, temperature=0, max_tokens=5, logit_bias={result.tokens[0]: -100}).result
    assert banned.tokens[:1] != result.tokens[:1]


def test_an_answer_keeps_to_a_schema(llm: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2]}},
        "required": ["ok", "n"],
        "additionalProperties": False,
    }
    for given in (schema, json.dumps(schema)):
        result = llm.chat(HELLO, schema=given, max_tokens=600, seed=1).result
        value = json.loads(result.text)
        assert isinstance(value["ok"], bool) and value["n"] in (1, 2) and result.finish_reason == "stop"
    (digits,) = llm.generate(["1"], constraint=ConstraintSpec("regex", "[0-9]{4}"), max_tokens=20)
    assert len(digits.text) == 4 and digits.text.isdecimal()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"schema": {"type": "nothing"}}, ConstraintError),
        ({"schema": "{"}, ConstraintError),
        ({"temperature": -1}, SamplingError),
        ({"max_tokens": 0}, RequestError),
        ({"logit_bias": {10**9: 1.0}}, RequestError),
        ({"stop": [""]}, EdgeError),
        ({"stop": ""}, EdgeError),
        ({"stop": [5]}, EdgeError),
        ({"thinking_budget": -1}, RequestError),
        ({"constraint": "[0-9]+"}, RequestError),
        ({"schema": {"type": "boolean"}, "ignore_eos": True}, RequestError),
        ({"temprature": 1}, TypeError),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    llm: Engine, options: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad stop string was found after the engine had begun, whose answer nobody was there to cancel."""
    sent: list[object] = []
    monkeypatch.setattr(llm._core, "send", sent.append)
    with pytest.raises(error):
        llm.chat(HELLO, **options)
    with pytest.raises(error):
        llm.generate(["x"], **options)
    with pytest.raises(error):
        asyncio.run(anext(llm.achat(HELLO, **options)))
    assert not sent


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(llm: Engine) -> None:
    with pytest.raises(RequestError, match=rf"\d{{4,}} tokens, the context {llm.ctx}"):
        llm.generate(["字 " * 5000])


def test_leaving_a_stream_ends_the_answer(llm: Engine) -> None:
    for _ in range(8):  # more than there are slots
        for _delta in llm.chat(HELLO, ignore_eos=True):
            break
    assert llm.chat(HELLO, temperature=0, max_tokens=2).result.timings.queue < 60
    stream = llm.chat(HELLO, ignore_eos=True)
    stream.cancel()
    assert stream.result.finish_reason == "cancelled"


def test_a_stream_that_is_forgotten_ends_the_answer() -> None:
    """It went on to the end of the context, for nobody."""
    cancelled: list[str] = []
    stream = Stream(Reader(PlainParser(), (), lambda: cancelled.append("cancel")), queue.SimpleQueue())
    del stream
    gc.collect()
    assert cancelled == ["cancel"]


def test_an_error_is_there_for_who_asks_again() -> None:
    """The second time waited for ever."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    events.put(Finished("error", Timings(), EngineError("it broke")))
    stream = Stream(Reader(PlainParser(), (), lambda: None), events)
    errors: list[str] = []

    def ask() -> None:
        for _ in range(2):
            try:
                _ = stream.result
            except EdgeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(30)
    assert errors == ["it broke"] * 2


def test_a_stop_string_is_found_while_an_earlier_answer_goes_on() -> None:
    """Answers were read one after another: the second went on beyond its stop string until the first had ended."""
    events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()

    def cancel() -> None:
        events.put((1, Finished("cancelled", Timings())))
        events.put((0, Finished("stop", Timings())))

    readers = [Reader(PlainParser(), ("b",), lambda: None), Reader(PlainParser(), ("b",), cancel)]
    for index, data in ((0, b"x"), (1, b"a"), (1, b"b"), (0, b"y")):
        events.put((index, Token(1, None, data)))
    results: list[Result] = []
    reading = threading.Thread(target=lambda: results.extend(read_all(readers, events, progress=False)), daemon=True)
    reading.start()
    reading.join(30)
    assert [(one.text, one.finish_reason) for one in results] == [("xy", "stop"), ("a", "stop")]


def test_asyncio(llm: Engine) -> None:
    async def text(count: int) -> str:
        return "".join([delta.text async for delta in llm.achat(HELLO, temperature=0, max_tokens=count)])

    async def all_of_them() -> list[str]:
        async for _ in llm.achat(HELLO, ignore_eos=True):
            break
        return await asyncio.gather(*(text(12) for _ in range(6)))

    want = llm.chat(HELLO, temperature=0, max_tokens=12).result.text
    assert all(one[:2] == want[:2] for one in asyncio.run(all_of_them()))


def test_any_thread_may_ask(llm: Engine) -> None:
    found: list[str] = []

    def ask() -> None:
        found.append(llm.chat(HELLO, temperature=0, max_tokens=3).result.finish_reason)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12 and set(found) <= {"stop", "length"}


def test_deterministic_answers_know_no_company(path: Path) -> None:
    with Engine(path, slots=4, deterministic=True, threads=2) as llm:
        prompts = ["你好，世界", "Where are the toilets? " * 10, "1 + 1 =", "The museum opens at"]
        alone = [llm.generate([one], max_tokens=16, seed=3)[0].tokens for one in prompts]
        assert [one.tokens for one in llm.generate(prompts, max_tokens=16, seed=3)] == alone


def test_an_engine_that_is_forgotten_closes(path: Path) -> None:
    """Its thread kept the model in memory to the end of the program: a second one in a notebook did not fit."""
    llm = Engine(path, slots=1)
    thread, model = llm._core._thread, weakref.ref(llm.model)
    stream = llm.chat(HELLO, max_tokens=5, ignore_eos=True)
    del llm
    assert stream.result.finish_reason == "length", "an answer that is awaited needs its engine"
    del stream
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    for _ in range(300):  # what ends behind the thread
        if model() is None:
            break
        time.sleep(0.1)
    assert model() is None


def test_a_closed_engine_says_so(path: Path) -> None:
    llm = Engine(path, slots=1)
    llm.close()
    llm.close()
    with pytest.raises(EdgeError, match="closed"):
        llm.chat(HELLO)


def test_closing_ends_what_is_at_work(path: Path) -> None:
    """Tokens that nobody had read were lost, or read with a vocabulary that was freed already."""
    with Engine(path, slots=1) as llm:
        streams = [llm.chat(HELLO, ignore_eos=True) for _ in range(3)]
        first = next(iter(streams[0])).text
        streams[0].cancel()
    assert all(stream.result.finish_reason == "cancelled" for stream in streams)
    assert first and streams[0].result.text.startswith(first)


def test_closing_waits_for_a_prompt_that_is_being_read(path: Path) -> None:
    """The vocabulary was freed while another thread tokenized with it: a segmentation fault."""
    llm = Engine(path, slots=1)
    tokenize, reading, go_on = llm.model.tokenize, threading.Event(), threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> list[int]:
        reading.set()
        assert go_on.wait(30)
        return tokenize(*args, **kwargs)

    llm.model.tokenize = slowly  # type: ignore[method-assign]
    errors: list[EdgeError] = []

    def ask() -> None:
        try:
            llm.chat(HELLO, ignore_eos=True)
        except EdgeError as error:
            errors.append(error)

    asking, closing = threading.Thread(target=ask), threading.Thread(target=llm.close)
    asking.start()
    assert reading.wait(30)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    with pytest.raises(EngineError, match="closed"):
        llm.generate(["x"])
    go_on.set()
    closing.join(30)
    asking.join(30)
    assert not closing.is_alive() and not asking.is_alive()
    assert all("closed" in str(error) for error in errors)


def test_a_program_may_end_without_closing(path: Path) -> None:
    """The model was freed at exit while the engine's thread computed with it: a segmentation fault."""
    script = """
import sys
from edge import Engine
llm = Engine(sys.argv[1])
streams = [llm.chat([{"role": "user", "content": "x"}], ignore_eos=True) for _ in range(4)]
print(type(next(iter(streams[0]))).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "Delta\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")
def test_a_forked_process_is_told_that_it_has_no_engine(path: Path) -> None:
    """It waited for ever: only the thread that forks lives on in the new process."""
    script = """
import os, sys
from edge import Engine
from edge.engine.types import EngineError
llm = Engine(sys.argv[1])
if child := os.fork():
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), llm.generate(["x"], max_tokens=1)[0].finish_reason)
else:
    try:
        llm.generate(["x"], max_tokens=1)
    except EngineError as error:
        print(error, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "a forked process has no engine" in done.stdout and done.stdout.endswith("\n0 length\n")


@pytest.mark.parametrize("width", [0, -1, 1.5])
def test_a_width_that_nothing_fits_into(path: Path, width: Any) -> None:
    """0 was taken for all; the others ended the engine's thread at the first request."""
    with pytest.raises(EngineError, match="width is a whole number"):
        Engine(path, width=width)


def test_a_context_that_is_too_long_frees_the_model(path: Path) -> None:
    with pytest.raises(EdgeError):
        Engine(path, ctx=10**9)


def test_an_engine_error_is_an_edge_error() -> None:
    assert issubclass(EngineError, EdgeError)


def test_the_names_of_the_api() -> None:
    import edge

    for name in edge.__all__:
        assert getattr(edge, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        edge.nothing  # noqa: B018


# --- settings that edge tune found


TUNED = Tuned(threads=1, threads_batch=2, flash_attn=True, rows=96, width=2)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_gguf.write(tmp_path / "tiny.gguf")


def keep(tiny: Path, found: Tuned = TUNED) -> Path:
    return tuned.save(tiny.parent, gguf_file.read(tiny), found)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What an engine really computes with; of flash attention what its context was asked for."""
    asked: dict[str, Any] = {}
    make = Context.__init__

    def noted(self: Context, *args: Any, **options: Any) -> None:
        asked.update(options)
        make(self, *args, **options)

    monkeypatch.setattr(Context, "__init__", noted)

    def used(path: Path, **options: Any) -> dict[str, Any]:
        with Engine(path, models_dir=path.parent, gpu_layers=0, **options) as llm:
            context, limits, lib = llm.context, llm._core.limits, llm.model.lib
            assert context.n_batch == context.n_ubatch == limits.rows
            return {
                "threads": lib.llama_n_threads(context.pointer),
                "threads_batch": lib.llama_n_threads_batch(context.pointer),
                "flash_attn": asked["flash_attn"],
                "rows": limits.rows,
                "width": limits.width,
                "answers": len(llm.generate(["hello"], max_tokens=3, ignore_eos=True)[0].tokens),
            }

    return used


MEASURED = {"threads": 1, "threads_batch": 2, "flash_attn": True, "rows": 96, "width": 2, "answers": 3}


def test_tuned_settings_are_used(tiny: Path, used: Callable[..., dict[str, Any]]) -> None:
    default = machine.usable_cores()
    plain = {"threads": default, "threads_batch": default, "flash_attn": None, "rows": 512, "width": 4, "answers": 3}
    assert used(tiny) == plain
    keep(tiny)
    assert used(tiny) == MEASURED


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"threads": 3}, {"threads": 3, "threads_batch": 3}),
        ({"threads_batch": 3}, {"threads_batch": 3}),
        ({"threads": 3, "threads_batch": 4}, {"threads": 3, "threads_batch": 4}),
        ({"flash_attn": False}, {"flash_attn": False}),
        ({"width": 3}, {"width": 3}),
        ({"width": 4, "slots": 4}, {"width": 4}),
        ({"slots": 1}, {"width": 1}),  # more than there are would not decode
    ],
)
def test_what_the_caller_gives_wins(
    tiny: Path, used: Callable[..., dict[str, Any]], options: dict[str, Any], changed: dict[str, Any]
) -> None:
    keep(tiny)
    assert used(tiny, **options) == MEASURED | changed


def test_a_quantized_cache_turns_flash_attention_on(tmp_path: Path, used: Callable[..., dict[str, Any]]) -> None:
    """It needs it, whatever was quicker with another cache."""
    heads = {"qwen2.attention.head_count": 2, "qwen2.attention.head_count_kv": 1}  # of 32 values: a block
    path = tiny_gguf.write(tmp_path / "wide.gguf", heads)
    assert used(path, kv_type="q8_0")["flash_attn"] is None, "llama.cpp's choice, which is on"
    keep(path, dataclasses.replace(TUNED, flash_attn=False))
    assert used(path)["flash_attn"] is False
    assert used(path, kv_type="q8_0") == MEASURED


@pytest.mark.parametrize("content", ["{", "[]", '{"threads": 1}', "[" * 5000])
def test_damaged_settings_are_ignored(tiny: Path, used: Callable[..., dict[str, Any]], content: str) -> None:
    plain = used(tiny)
    keep(tiny).write_text(content, encoding="utf-8")
    assert used(tiny) == plain


def test_settings_of_other_layers_on_gpus_are_ignored(tiny: Path, used: Callable[..., dict[str, Any]]) -> None:
    plain = used(tiny)
    keep(tiny, dataclasses.replace(TUNED, gpu_layers=3))
    assert used(tiny) == plain


def test_settings_of_another_machine_or_model_are_ignored(tiny: Path, used: Callable[..., dict[str, Any]]) -> None:
    plain = used(tiny)
    foreign = keep(tiny)
    machine_key, _, model_key = foreign.stem.partition("-")
    for name in (f"{'0' * 16}-{model_key}", f"{machine_key}-{'0' * 16}"):
        foreign = foreign.rename(foreign.with_name(f"{name}.json"))
        assert used(tiny) == plain
    foreign.rename(foreign.with_name(f"{machine_key}-{model_key}.json"))
    assert used(tiny) == MEASURED


def test_a_context_that_is_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp allocated it, and the system ended the process."""
    path = tiny_gguf.write(tmp_path / "long.gguf", {"qwen2.context_length": 1_000_000})
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(1 << 30, 1 << 24, None))
    with pytest.raises(MemoryShort, match=r"a context of 1000000 tokens needs .*; \d+ tokens fit") as caught:
        Engine(path, ctx=1_000_000, slots=1)
    most = int(caught.value.hint.split()[0])
    with Engine(path, ctx=most, slots=1) as llm:
        assert llm.ctx == most
    with pytest.raises(MemoryShort):
        Engine(path, ctx=most, slots=2)
