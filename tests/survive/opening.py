"""Opens damaged files, one after another, until one ends the process: ``opening.py KIND SEED FOLDER``, cases on stdin.

A case is a number in a line; what became of it is a line of JSON, whose ``outcome`` is ``refused``, ``loaded``, or what
is wrong. Nothing in a case is random but what seed, kind and number give.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from convert.errors import EdgeError
from convert.pipeline import convert
from edge import sealed
from edge.api import Engine
from edge.kiosk.box import container, manifest
from edge.kiosk.box.check import check_box
from edge.kiosk.box.errors import BoxError
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampler, Sampling
from edge.lock_file import read_lock, shipped_path
from edge.prompt import prompt_tokens
from edge.warm import KEY_NAME, Warm
from tests.edge.kiosk.box.boxes import KEY, MARK, Maker, code, nothing, public
from tests.survive.mutations import BYTES, TEXT, GgufMutator, field_changed

HELLO = [{"role": "user", "content": "你好, where is the lift?"}]
SYSTEM, QUESTIONS = "You are the guide of the Museum of Rivers.", ["Where is the lift?"]


class Accepted(Exception):
    """Damaged bytes were taken for sound ones."""


class GgufKind:
    """The header of a tiny model: opened, loaded, and one token decoded, as the engine does it."""

    def __init__(self, model: str, folder: Path) -> None:
        self.path = folder / "case.gguf"
        right = folder / f"{model}.gguf"
        convert(Path(str(files("edge.models") / model)), {"Q4_0": right})
        self._mutator = GgufMutator(right.read_bytes())
        self.ways = list(self._mutator.ways)
        decode_once(right)

    def make(self, way: str, rng: Random) -> None:
        self.path.write_bytes(self._mutator.ways[way](rng))

    def open(self) -> None:
        decode_once(self.path)


def decode_once(path: Path) -> None:
    with Model(path) as model:
        with Context(model, 128, n_batch=64, threads=1) as context, Batch(64) as batch:
            tokens = (prompt_tokens(model, HELLO) if model.chat_template else model.tokenize("你好, x"))[:64]
            for position, token in enumerate(tokens or [0]):
                batch.add(token, position, want_logits=position == max(0, len(tokens) - 1))
            context.decode(batch)
            with Sampler(model, Sampling(temperature=0)) as sampler:
                model.token_bytes(sampler.sample(context, len(batch) - 1))
        _ = model.end_tokens, model.fim, model.control_texts, model.desc


class StateKind:
    """A kept prefix and the device's key, at the start of an engine. Nothing that is not ours may be restored."""

    ways = (*(f"state {way}" for way in BYTES), *(f"key {way}" for way in BYTES), "other key", "other prefix")

    def __init__(self, folder: Path) -> None:
        gguf = folder / "tiny.gguf"
        convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q4_0": gguf})
        self._engine = Engine(gguf, ctx=256, slots=1, threads=1)
        self.folder = folder / "state"
        self._start().compute(self._engine)
        (self._state,) = self.folder.glob("warm-*.state")
        self._key = self.folder / KEY_NAME
        self._right, self._right_key = self._state.read_bytes(), self._key.read_bytes()
        assert self._start().restored, "what is right is not restored"

    def _start(self) -> Warm:
        warm = Warm(self.folder, SYSTEM, QUESTIONS, lambda text: None)
        warm.restore(self._engine)
        return warm

    def make(self, way: str, rng: Random) -> None:
        state, key = self._right, self._right_key
        where, _, kind = way.partition(" ")
        if way == "other prefix":  # sealed by this device, but for another system prompt
            about = state[len(sealed.MAGIC) :][: sealed.DIGEST]
            other = bytes([about[0] ^ 1]) + about[1:]
            sealed.write(self._state, key, other, bytes(len(state) - sealed.AROUND))
            state = self._state.read_bytes()
        elif way == "other key":
            key = rng.randbytes(len(key))
        elif where == "state":
            state = BYTES[kind](rng, state)
        else:
            key = BYTES[kind](rng, key)
        self._same = (state, key) == (self._right, self._right_key)
        for path, data in ((self._state, state), (self._key, key)):
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)

    def open(self) -> None:
        if self._start().restored and not self._same:
            raise Accepted
        if not self._same:
            raise EdgeError("a cold start")


class LockKind:
    """The shipped lock."""

    ways = tuple(TEXT)

    def __init__(self, folder: Path) -> None:
        self.path, self._right = folder / "models.lock", shipped_path().read_bytes()

    def make(self, way: str, rng: Random) -> None:
        self.path.write_bytes(TEXT[way](rng, self._right))

    def open(self) -> None:
        read_lock(self.path)


SIGNED = {**TEXT, "field": field_changed}


class BoxKind:
    """A box: any changed byte must be refused; and manifests that its maker signed, but that make no sense."""

    ways = (
        *(f"file {way}" for way in BYTES),
        *(f"archive {way}" for way in BYTES),
        *(f"signed {way}" for way in SIGNED),
    )

    def __init__(self, folder: Path) -> None:
        (folder / "packing").mkdir()
        self._maker = Maker(folder / "packing")
        self._right = (path := self._maker()).read_bytes()
        self.path, self._box = folder / "box.edge", container.open_box(path)
        check_box(path, frozenset((MARK,)), nothing)

    def make(self, way: str, rng: Random) -> None:
        where, _, kind = way.partition(" ")
        right, start = self._right, self._box.archive.start
        if where == "signed":
            signed = SIGNED[kind](rng, self._box.manifest)
            members = {
                manifest.MANIFEST: signed,
                manifest.SIGNATURE: KEY.sign(signed),
                manifest.KEY: public(),
                **code(),
            }
            container.write_box(self.path, [], members)  # then the blobs that the manifest tells of
            tail = self.path.read_bytes()[len(container.SHEBANG) :]
            data = right[:start] + tail
        elif where == "archive":
            data = right[:start] + BYTES[kind](rng, right[start:])
        else:
            data = BYTES[kind](rng, right)
        self._may_be_right = where == "signed" or data == right
        self.path.write_bytes(data)

    def open(self) -> None:
        found = check_box(self.path, frozenset((MARK,)), nothing)
        if not self._may_be_right:
            raise Accepted
        for file in found.manifest.files:
            if not manifest.is_inside(file.path):
                raise Accepted(file.path)


KINDS: Mapping[str, Callable[[Path], Any]] = {
    "tiny-qwen": lambda folder: GgufKind("tiny-qwen", folder),
    "tiny-glm": lambda folder: GgufKind("tiny-glm", folder),
    "state": StateKind,
    "lock": LockKind,
    "box": BoxKind,
}


def try_case(kind: Any, name: str, seed: int, case: int) -> dict[str, Any]:
    way = kind.ways[case % len(kind.ways)]
    result: dict[str, Any] = {"case": case, "way": way}
    kind.make(way, Random(f"{seed} {name} {case}"))
    say(result)  # so that it is known what ended the process
    forget_peak()
    try:
        kind.open()
        result["outcome"] = "loaded"
    except (EdgeError, BoxError) as error:
        result |= {"outcome": "refused", "why": str(error)[:300]}
        if not error.message or "\n" in str(error):
            result["outcome"] = "refused without a reason in one line"
    except Accepted:
        result["outcome"] = "damaged, but accepted"
    except BaseException:
        result |= {"outcome": "traceback", "why": traceback.format_exc()[-1500:]}
    return {**result, "peak": peak()}


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes of memory since ``forget_peak``."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def say(value: Mapping[str, Any]) -> None:
    print(json.dumps(value), file=ANSWERS, flush=True)


def main() -> None:
    name, seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    kind = KINDS[name](folder)
    say({"ready": True})
    for line in sys.stdin:
        say(try_case(kind, name, seed, int(line)))


ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
if __name__ == "__main__":
    os.dup2(2, 1)  # what libraries print is no answer
    main()
