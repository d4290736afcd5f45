"""What is killed and starved here: each operation in a folder of its own that holds an older result already."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from convert.errors import EdgeError
from convert.pipeline import convert
from edge import sealed, store
from edge.kiosk import keys
from edge.kiosk.box.check import check_box
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.layout import Layout
from edge.lock import LockedFile, LockedModel
from edge.lock_file import write_lock
from edge.verify import stored_checks, verify
from tests.edge.kiosk.box.boxes import MARK, Maker, nothing, version_of
from tests.survive.common import Ended, edge, environment, python, run

TINY = Path(str(files("edge.models") / "tiny-qwen"))
UNFINISHED = re.compile(r"\.partial$|\.chunks$|\.new$|\.old$|(^|/)\.")
"""Names under which nobody looks for a result: what is not whole yet, locks, receipts."""
VOLATILE = {"converted", "checkpoint", "mtime_ns", "ctime_ns"}  # keys of JSON files that differ from run to run


@dataclass
class Operation:
    """``name``; ``old`` and ``new``: the content of the folder before and after, set by ``ready``. ``names``: of every
    file that an undisturbed run leaves. ``seconds`` and ``changes``: how long one takes, how often it changes files."""

    name: str = ""
    old: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    seconds: float = 0.0
    changes: int = 0
    before: Path = Path()  # a folder that holds the old result, to be copied

    def prepare(self, folder: Path) -> None:
        """Put the old result, and what is read, into ``folder``."""
        raise NotImplementedError

    def program(self, folder: Path) -> list[str]:
        """What Python is to run there."""
        raise NotImplementedError

    def environment(self, folder: Path) -> dict[str, str]:
        return environment(EDGE_HOME=str(folder))

    def ignores(self, name: str) -> bool:
        """Files that are no result, and may be anything: inputs, notes."""
        return False

    def damage(self, folder: Path) -> Iterator[str]:
        """What the program's own check says is wrong there, beyond each file's bytes."""
        yield from ()

    def run(self, folder: Path, wrapper: list[str] | None = None, **options: Any) -> Ended:
        program = self.program(folder)
        command = python("-m", "tests.survive.moments", *wrapper, "--", *program) if wrapper else python(*program)
        return run(command, options.pop("env", self.environment(folder)), **options)

    def ready(self, work: Path) -> None:
        """Prepare below ``work``, and see how an undisturbed run goes."""
        self.before = work / f"{self.name}-before"
        self.before.mkdir(parents=True)
        self.prepare(self.before)
        self.old = self.content(self.before)
        assert self.old, f"{self.name}: there is no old result"
        plain, counted = (self.copy(work / f"{self.name}-{kind}") for kind in ("plain", "counted"))
        ended = self.run(plain)
        assert ended.code == 0, ended.errors
        self.seconds, self.new, self.names = ended.seconds, self.content(plain), frozenset(all_names(plain))
        assert self.new != self.old, f"{self.name}: the new result is the old one"
        ended = self.run(counted, ["count", str(work / f"{self.name}-count")])
        assert ended.code == 0 and self.content(counted) == self.new, f"{self.name} gives another result each time"
        self.changes = int((work / f"{self.name}-count").read_text())
        for folder in (plain, counted):
            shutil.rmtree(folder)

    def copy(self, folder: Path) -> Path:
        """The old result once more. Hard links stay what they are."""
        run_plain("cp", "-a", f"{self.before}/.", str(folder))
        return folder

    def content(self, folder: Path) -> dict[str, str]:
        """Every result under its final name -> a digest of what matters in it."""
        return {name: digest(folder, name) for name in all_names(folder) if self.is_result(name)}

    def is_result(self, name: str) -> bool:
        return not UNFINISHED.search(name) and not self.ignores(name)

    def wrong(self, folder: Path) -> Iterator[str]:
        """Each file must be the old or the new one, and none of the old ones may be lost."""
        there = self.content(folder)
        for name, found in there.items():
            if found not in (self.old.get(name), self.new.get(name)):
                yield f"{name} is neither the old file nor the new one"
        for name in self.old.keys() - there.keys():
            if name in self.new:
                yield f"{name} is lost"
        yield from self.damage(folder)

    def left_over(self, folder: Path) -> set[str]:
        """What is there beside all that an undisturbed run leaves."""
        return set(all_names(folder)) - self.names


class Convert(Operation):
    """``edge convert`` over an older file of the same size: another training of the same model."""

    def prepare(self, folder: Path) -> None:
        older = folder / "older"
        shutil.copytree(TINY, older)
        weights = bytearray((older / "model.safetensors").read_bytes())
        for at in range(len(weights) - 100_000, len(weights), 2):
            weights[at] ^= 1  # the last bit of some numbers
        (older / "model.safetensors").write_bytes(weights)
        command = python(*edge("convert", older, "--level", "Q4_K_M", "--name", "tiny-qwen"))
        ended = run(command, self.environment(folder))
        assert ended.code == 0, ended.errors
        shutil.rmtree(older)

    def program(self, folder: Path) -> list[str]:
        return edge("convert", "tiny-qwen", "--level", "Q4_K_M")

    def damage(self, folder: Path) -> Iterator[str]:
        for finding in verify(stored_checks(LockedModel("tiny-qwen"), folder / "models"), lambda *_: None):
            if finding.state != "ok":
                yield f"verify: {finding.text}"
            elif store.read_report(finding.path).get("sha256") != finding.found:
                yield f"the report beside {finding.name} is another file's"


class Pull(Operation):
    """``edge pull`` of a model that changed, from a folder, over what was pulled before."""

    def prepare(self, folder: Path) -> None:
        later, source = folder / "later", folder / "source"
        shutil.copytree(TINY, source)
        (source / "generation_config.json").write_text('{"eos_token_id": 1}')
        write_lock(folder / "shipped.lock", {"tiny-1b": LockedModel("tiny-1b")})
        ended = run(python(*self.program(folder)), self.environment(folder))
        assert ended.code == 0, ended.errors
        shutil.copytree(TINY, later)
        weights = (later / "model.safetensors").read_bytes()
        (later / "model.safetensors").write_bytes(weights[:-1000] + bytes(1000))
        shutil.rmtree(source)
        later.rename(source)
        listed = tuple(LockedFile(path.name, path.stat().st_size, digest_of(path)) for path in sorted(source.iterdir()))
        write_lock(folder / "shipped.lock", {"tiny-1b": LockedModel("tiny-1b", files=listed)})
        (folder / "models" / "models.lock").unlink()  # as the error about the change advises

    def program(self, folder: Path) -> list[str]:
        return edge("pull", "tiny-1b", "--source", folder / "source")

    def environment(self, folder: Path) -> dict[str, str]:
        return environment(EDGE_HOME=str(folder), EDGE_LOCK=str(folder / "shipped.lock"))

    def ignores(self, name: str) -> bool:
        return name.startswith(("source/", "shipped.lock"))


class Pack(Operation):
    """``edge pack`` over the box of an older model."""

    def prepare(self, folder: Path) -> None:
        for level in ("Q4_0", "Q8_0"):
            convert(TINY, {level: folder / f"tiny-qwen-{level}.gguf"})
        keys.new_key(folder / "key.pem")
        ended = run(python(*self.packing(folder, "Q4_0")), self.environment(folder))
        assert ended.code == 0, ended.errors

    def packing(self, folder: Path, level: str) -> list[str]:
        words = ["-m", "tests.survive.packing", "pack", str(folder / f"tiny-qwen-{level}.gguf")]
        return [*words, "--key", str(folder / "key.pem"), "-o", str(folder / "box.edge")]

    def program(self, folder: Path) -> list[str]:
        return self.packing(folder, "Q8_0")

    def ignores(self, name: str) -> bool:
        return name != "box.edge"

    def damage(self, folder: Path) -> Iterator[str]:
        yield from refusal(lambda: check_box(folder / "box.edge", mark_of(folder / "key.pem"), nothing))


class Install(Operation):
    """``python3 box.edge install`` of a third version, where the second is current and the first can be gone back to.

    Real code with a stand-in for the model's runtime. What counts is not each file but that the current slot is whole,
    and the one to go back to, where it is named.
    """

    def prepare(self, folder: Path) -> None:
        (folder / "boxes").mkdir()
        make = Maker(folder / "boxes")
        for version in "123":
            make(version, extra={"site/large.bin": version.encode() * 3_000_000}).rename(folder / f"box{version}.edge")
        shutil.rmtree(folder / "boxes")
        for version in "12":
            ended = run(python(*self.installing(folder, version)), self.environment(folder))
            assert ended.code == 0, ended.errors

    def installing(self, folder: Path, version: str) -> list[str]:
        words = [str(folder / f"box{version}.edge"), "install", "--root", str(folder / "root"), "--key", MARK]
        return [*words, "--no-service"]

    def program(self, folder: Path) -> list[str]:
        return self.installing(folder, "3")

    def ignores(self, name: str) -> bool:
        return not name.startswith("root/") or name.startswith(("root/trial/", "root/log/"))

    def wrong(self, folder: Path) -> Iterator[str]:
        layout = Layout(folder / "root")
        try:
            current, previous = version_of(layout), version_of(layout, "previous")
        except (BoxError, AssertionError) as error:
            yield f"a slot is not sound: {error}"
            return
        if (current, previous) not in (("2", "1"), ("2", None), ("3", "2")):
            yield f"version {current} is current, {previous} is to go back to"
        for path in layout.store.iterdir():
            if not UNFINISHED.search(path.name) and digest_of(path) != path.name.removesuffix(".x"):
                yield f"store/{path.name} holds something else"
        names = {"store", "slots", "current", "previous", "trusted", "log", "edge", ".lock", "trial", "state"}
        for path in layout.root.iterdir():
            if path.name not in names and not UNFINISHED.search(path.name):
                yield f"{path.name} is under the root"
        for path in (*layout.root.rglob("*"), layout.root):
            mode = path.lstat().st_mode
            if not path.is_symlink() and mode & 0o022:
                yield f"others may write into {path.name}"
            if path.parent in (layout.root, layout.store, *layout.slots.iterdir()) and not UNFINISHED.search(path.name):
                yield from unreadable(path, mode)


def unreadable(path: Path, mode: int) -> Iterator[str]:
    """The service runs as a user of its own."""
    if not path.is_symlink() and path.name not in ("trial", "state") and not mode & 0o004:
        yield f"the service cannot read {path.name}"


class State(Operation):
    """What is kept for the next start, where an earlier start kept something for another system prompt."""

    OLD, NEW = "You are the guide of the old museum.", "You are the guide of the new museum. Be brief and kind."

    def prepare(self, folder: Path) -> None:
        convert(TINY, {"Q4_0": folder / "tiny.gguf"})
        (folder / "state").mkdir()
        ended = run(python(*self.saving(folder, self.OLD)), self.environment(folder))
        assert ended.code == 0, ended.errors

    def saving(self, folder: Path, system: str) -> list[str]:
        return ["-m", "tests.survive.saving", str(folder / "tiny.gguf"), str(folder / "state"), system]

    def program(self, folder: Path) -> list[str]:
        return self.saving(folder, self.NEW)

    def ignores(self, name: str) -> bool:
        return not name.startswith("state/")

    def damage(self, folder: Path) -> Iterator[str]:
        key = sealed.read_key(folder / "state" / "device.key")
        for path in (folder / "state").glob("warm-*.state"):
            about = path.read_bytes()[len(sealed.MAGIC) :][: sealed.DIGEST]
            yield from refusal(lambda path=path, about=about: sealed.read(path, key, about, 1 << 30))


OPERATIONS: dict[str, type[Operation]] = {
    "convert": Convert,
    "pull": Pull,
    "pack": Pack,
    "install": Install,
    "state": State,
}


def refusal(look: Callable[[], object]) -> Iterator[str]:
    """What the program's own check says."""
    try:
        look()
    except (EdgeError, BoxError) as error:
        yield str(error)


def mark_of(key: Path) -> frozenset[str]:
    return frozenset((keys.fingerprint(keys.public_bytes(keys.read_key(key))),))


def all_names(folder: Path) -> list[str]:
    """Every file and link below, with slashes."""
    found = []
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in [*names, *links]]
    return sorted(found)


def digest(folder: Path, name: str) -> str:
    """Of what matters: not of times, nor of the folder's own name."""
    path = folder / name
    if path.is_symlink():
        return f"link to {path.readlink()}"
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            value = json.loads(data, object_hook=lambda table: {k: v for k, v in table.items() if k not in VOLATILE})
            data = json.dumps(value, sort_keys=True).encode()
        except ValueError:
            pass
    return hashlib.sha256(data.replace(str(folder).encode(), b"FOLDER")).hexdigest()


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_plain(*command: str) -> None:
    ended = run(command, os.environ)
    assert ended.code == 0, ended.errors
