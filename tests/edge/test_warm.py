"""Warm starts: the same answers from what an earlier start kept, and a cold start whatever became of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest

import edge.warm
from convert.pipeline import convert
from edge import sealed, warm_key
from edge.api import Engine
from edge.warm import Warm, most_bytes, prefix_of

SYSTEM = "You are the guide of the harbour museum. " * 6
PRESETS = ("Where are the toilets?", "Where is the exit?")
posix = pytest.mark.skipif(os.name == "nt", reason="no such files")


@pytest.fixture(scope="module", params=["tiny-qwen", "tiny-glm"])
def gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warm") / f"{request.param}-Q8_0.gguf"
    convert(Path(str(files("edge.models") / request.param)), {"Q8_0": path})
    return path


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warm") / "tiny-qwen-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


@dataclass
class Start:
    """One start of an engine with a state folder, up to where visitors find everything in place."""

    engine: Engine
    log: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    restored: bool = False

    def ask(self, question: str, system: str = SYSTEM) -> tuple[str, int]:
        """The likeliest answer, and how many tokens of the prompt were there."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        stream = self.engine.chat(messages, temperature=0.0, max_tokens=24)
        return stream.result.text, stream.result.timings.cached_tokens


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Start]]:
    engines: list[Engine] = []

    def begin(path: Path, folder: Path | None = tmp_path / "state", system: str = SYSTEM, **options: object) -> Start:
        while engines:
            engines.pop().close()
        start = Start(Engine(path, **{"ctx": 1024, "slots": 2, "threads": 1, **options}))  # type: ignore[arg-type]
        engines.append(start.engine)
        warm = Warm(folder, system, PRESETS, start.log.append, start.said.append)
        warm.restore(start.engine)
        warm.compute(start.engine)
        start.restored = warm.restored
        return start

    yield begin
    while engines:
        engines.pop().close()


def state_in(folder: Path) -> Path:
    (found,) = folder.glob("warm-*.state")
    return found


def test_the_same_answers_warm_and_cold(gguf: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    questions = (*PRESETS, "你好", "Tell me about the ships.")
    cold = begin(gguf)
    count = len(prefix_of(cold.engine.model, SYSTEM, PRESETS))
    assert count > 40 and not cold.restored and cold.log == []
    assert cold.said[0].startswith(f"cold start: {count} tokens computed")
    answers = [cold.ask(question) for question in questions]
    assert all(text and count <= cached <= count + 2 for text, cached in answers)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        "device.key",
        state_in(tmp_path / "state").name,
    }
    before = state_in(tmp_path / "state").read_bytes()
    warm = begin(gguf)
    assert warm.restored and warm.log == [] and warm.said[0].startswith(f"warm start: {count} tokens restored")
    assert [warm.ask(question) for question in questions] == answers
    warm.engine.wipe().result(30)
    assert [warm.ask(question) for question in questions] == answers
    assert state_in(tmp_path / "state").read_bytes() == before, "which is not written again"
    plain = begin(gguf, None, system="")
    assert [plain.ask(question)[0] for question in questions] == [text for text, _ in answers]


def test_what_conversations_have_in_common(gguf: Path, begin: Callable[..., Start]) -> None:
    """Not the words that the preset questions begin with: a visitor's own question does not."""
    model = begin(gguf, None).engine.model
    prefix = prefix_of(model, SYSTEM, PRESETS)
    assert prefix == prefix_of(model, SYSTEM, ())
    text = b"".join(model.token_bytes(token, special=True) for token in prefix).decode()
    assert SYSTEM.strip() in text and "Where" not in text
    assert prefix_of(model, SYSTEM + "More.", PRESETS)[: len(prefix) // 2] == prefix[: len(prefix) // 2]


def test_what_visitors_say_is_not_kept(qwen: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    """Neither is what was said before the prefix was computed."""
    alone = begin(qwen, tmp_path / "alone")
    engine = alone.engine
    clean = state_in(tmp_path / "alone").read_bytes()
    for path in (tmp_path / "alone").glob("warm-*"):
        path.unlink()
    alone.ask("My name is Li Lei and my secret is 4711.", SYSTEM + "And more")
    warm = Warm(tmp_path / "alone", SYSTEM, PRESETS, alone.log.append)
    warm.restore(engine)
    warm.compute(engine)
    after = state_in(tmp_path / "alone").read_bytes()
    assert len(after) == len(clean) and alone.log == []
    assert len(after) < most_bytes(engine, len(prefix_of(engine.model, SYSTEM, PRESETS)))


@pytest.mark.parametrize(
    "options",
    [{"ctx": 2048}, {"slots": 3}, {"kv_type": "q8_0"}, {"flash_attn": True}, {"system": SYSTEM + "Be short."}],
)
def test_another_setting(qwen: Path, begin: Callable[..., Start], tmp_path: Path, options: dict[str, object]) -> None:
    begin(qwen)
    first = state_in(tmp_path / "state")
    start = begin(qwen, **options)
    assert (
        not start.restored and len(start.log) == 1 and "another model, system prompt, setting or build" in start.log[0]
    )
    assert state_in(tmp_path / "state") != first, "the old one is gone"
    assert begin(qwen, **options).restored


def test_threads_do_not_matter(qwen: Path, begin: Callable[..., Start]) -> None:
    begin(qwen)
    assert begin(qwen, threads=2).restored


def test_another_model_under_its_name(qwen: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    """Of the same shape and size, as a further training is."""
    path = tmp_path / "model.gguf"
    data = bytearray(qwen.read_bytes())
    path.write_bytes(data)
    begin(path)
    time = path.stat().st_mtime_ns
    data[-64:] = bytes(64)
    path.write_bytes(data)
    os.utime(path, ns=(time, time))
    start = begin(path)
    assert not start.restored and len(start.log) == 1


def test_another_build(
    qwen: Path, begin: Callable[..., Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(qwen)
    monkeypatch.setattr(warm_key, "library_digest", lambda: "another build")
    start = begin(qwen)
    assert not start.restored and len(start.log) == 1 and "build" in start.log[0]


# --- what may become of the folder


def flip(place: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return change


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    (path / "something").mkdir(parents=True)


def replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_another_key(path: Path) -> None:
    about = path.read_bytes()[len(sealed.MAGIC) :][: sealed.DIGEST]
    content = path.read_bytes()[len(sealed.MAGIC) + sealed.DIGEST : -sealed.MAC]
    sealed.write(path, bytes(32), about, content)


def about_something_else(path: Path) -> None:
    """What this device wrote for another model, renamed."""
    key = sealed.read_key(path.with_name("device.key"))
    sealed.write(path, key, bytes(32), path.read_bytes()[len(sealed.MAGIC) + sealed.DIGEST : -sealed.MAC])


def a_new_device_key(path: Path) -> None:
    sealed.make_key(path.with_name("device.key"))


def a_short_device_key(path: Path) -> None:
    path.with_name("device.key").write_bytes(b"x" * 31)


def an_open_device_key(path: Path) -> None:
    path.with_name("device.key").chmod(0o644)


DAMAGE = [
    flip(0),
    flip(20),
    flip(60),
    flip(5000),
    flip(-40),
    flip(-1),
    lambda path: os.truncate(path, 0),
    lambda path: os.truncate(path, 40),
    lambda path: os.truncate(path, path.stat().st_size - 1),
    lambda path: os.truncate(path, path.stat().st_size + 1),
    lambda path: os.truncate(path, 2 << 30),
    of_another_key,
    about_something_else,
    a_new_device_key,
    a_short_device_key,
    *([] if os.name == "nt" else [replaced_by_a_link, replaced_by_a_pipe, an_open_device_key]),
]


def test_damage_costs_a_line_and_a_computation(
    qwen: Path, begin: Callable[..., Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C sees none of it, and the start after is warm again."""
    folder = tmp_path / "state"
    first = begin(qwen)
    want = first.ask(PRESETS[0])
    given: list[bytearray] = []
    restore = Engine.restore_prefix

    def spied(engine: Engine, tokens: list[int], state: bytearray) -> object:
        given.append(state)
        return restore(engine, tokens, state)

    monkeypatch.setattr(Engine, "restore_prefix", spied)
    for damage in DAMAGE:
        damage(state_in(folder))
        log: list[str] = []
        warm = Warm(folder, SYSTEM, PRESETS, log.append)
        warm.restore(first.engine)
        assert not warm.restored and given == [], damage
        assert 1 <= len(log) <= 2 and log[-1].startswith("cold start: "), (damage, log)
        assert str(tmp_path) not in "".join(log)
        warm.compute(first.engine)
        again = Warm(folder, SYSTEM, PRESETS, log.append)
        again.restore(first.engine)
        assert again.restored and len(given) == 1, (damage, log)
        given.clear()
    start = begin(qwen)
    assert start.restored and start.log == [] and start.ask(PRESETS[0]) == want


def test_a_folder_in_its_place_stays(qwen: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    """It may be somebody's: the service goes on cold."""
    want = begin(qwen).ask(PRESETS[0])
    replaced_by_a_folder(path := state_in(tmp_path / "state"))
    for _ in range(2):
        start = begin(qwen)
        assert not start.restored and len(start.log) == 2 and "the next start will be cold, too" in start.log[1]
        assert start.ask(PRESETS[0]) == want
    assert (path / "something").is_dir()


def test_a_state_that_c_refuses(qwen: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    """As it would be if the key forgot something that matters."""
    want = begin(qwen).ask(PRESETS[0])
    path = state_in(tmp_path / "state")
    data, head = path.read_bytes(), len(sealed.MAGIC)
    key = sealed.read_key(path.with_name("device.key"))
    sealed.write(path, key, data[head : head + 32], data[head + 32 : -32 - 100])
    start = begin(qwen)
    assert not start.restored and start.log == ["cold start: " + start.log[0].removeprefix("cold start: ")]
    assert start.ask(PRESETS[0]) == want
    assert begin(qwen).restored


def test_nowhere_to_keep_it(
    qwen: Path, begin: Callable[..., Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or read-only disk: a line, and a service that answers."""
    (tmp_path / "file").write_bytes(b"")
    start = begin(qwen, tmp_path / "file" / "state")
    assert not start.restored and len(start.log) == 1 and start.ask(PRESETS[0])[1] > 40
    begin(qwen)
    flip(50)(state_in(tmp_path / "state"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    start = begin(qwen)
    assert start.log[1:] == ["the next start will be cold, too: No space left on device"]
    assert start.ask(PRESETS[0])[1] > 40
    start = begin(qwen, tmp_path / "new")
    assert start.log == ["cold start: No space left on device"] and start.ask(PRESETS[0])[1] > 40
    assert [*(tmp_path / "new").iterdir()] == []


def test_what_a_power_cut_left_is_removed(qwen: Path, begin: Callable[..., Start], tmp_path: Path) -> None:
    (folder := tmp_path / "state").mkdir()
    for name in ("warm-0123.state.89ab.partial", "device.key.4567.partial", "notes.txt"):
        (folder / name).write_bytes(b"half")
    begin(qwen)
    assert sorted(path.name for path in folder.iterdir()) == ["device.key", "notes.txt", state_in(folder).name]


# --- where there is nothing to do


def test_nothing_worth_keeping(
    qwen: Path, begin: Callable[..., Start], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.warm, "LEAST", 40)  # this model's template has a system prompt of its own
    for options in ({"system": ""}, {"deterministic": True}, {"folder": None}):
        start = begin(qwen, **options)
        assert not start.restored and start.log == []
        assert not (tmp_path / "state").exists()
    assert start.said and start.ask(PRESETS[0])[1] > 40, "without a folder it is kept in memory"


def test_a_system_prompt_that_does_not_fit(qwen: Path, begin: Callable[..., Start]) -> None:
    start = begin(qwen, system=SYSTEM * 40)
    assert len(start.log) == 1 and "tokens, the context 1024" in start.log[0]
