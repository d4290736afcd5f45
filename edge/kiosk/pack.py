"""Make a box: a model, the packages and libraries that serve it, the visitors' page, all signed, in one file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convert.gguf_file import GgufFile
from convert.levels import LEVELS
from edge import __version__, store
from edge.errors import PackError
from edge.hashing import sha256_of
from edge.kiosk import builds, golden, keys, runtime
from edge.kiosk.box import container, manifest
from edge.kiosk.box.container import Blob
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.manifest import CONFIG, KEY, MANIFEST, MODEL, SIGNATURE, File, Golden, Manifest
from edge.kiosk.runtime import Content
from edge.lock import LockedModel, Output
from edge.lock_file import lock_text
from edge.memory import context_bytes
from edge.model_file import level_of, read_sane
from edge.plan.levels import program_bytes
from edge.server.config import Kiosk, read_kiosk
from edge.shapes import from_gguf
from edge.user_lock import known_models

OnProgress = Callable[[str, int, int], None]
BOX = "box"  # the folder of the code that installs
LOCK = "model/lock.toml"
DEFAULT_CONTEXT = 4096  # tokens
UNKNOWN = "unknown"  # level of a file that names none


@dataclass(frozen=True)
class Packed:
    """``box``: the file, of ``size`` bytes. ``archive``: what is checked before the box is run."""

    box: Path
    size: int
    archive: container.Written
    fingerprint: str
    manifest: Manifest

    @property
    def check_command(self) -> str:
        return f"tail -c {self.archive.length} {self.box.name} | sha256sum"

    @property
    def install_command(self) -> str:
        return f"sudo python3 {self.box.name} install --key {self.fingerprint}"


def pack(
    gguf: Path,
    name: str,
    out: Path,
    *,
    key: Path,
    models: Path,
    config: Path | None = None,
    ctx: int | None = None,
    slots: int = 4,
    serve: Sequence[str] = (),
    on_progress: OnProgress = lambda what, done, of: None,
) -> Packed:
    """Write the box of the model ``gguf``, called ``name``, to ``out``, and sign it with ``key``.

    ``config``: the visitors' page, a kiosk.toml. ``ctx``, ``slots``: of the service; ``serve``: its
    further options. Raises EdgeError.
    """
    signer = keys.read_key(key)
    public = keys.public_bytes(signer)
    kiosk = read_kiosk(config) if config else None
    store.check_name(name)
    check_out(out)
    file = read_sane(gguf)
    ctx = chosen_context(file, ctx)
    weights = hashed([Content(MODEL, gguf)], on_progress, "hashing the model")
    check_weights(gguf, weights[MODEL])
    on_progress("asking the golden question", 0, 1)
    question, prefix = golden.ask(gguf, questions(kiosk), ctx)
    libraries = builds.libraries(on_progress)  # what takes minutes comes last
    with tempfile.TemporaryDirectory(prefix="edge-pack-") as staging:
        on_progress("collecting packages", 0, 1)
        site = runtime.collect(Path(staging))
        lock = locked(name, file, weights[MODEL].sha256, models)
        lock_file = Path(staging) / "lock.toml"
        lock_file.write_text(lock_text({lock.name: lock}), encoding="utf-8")
        parts = [*site.files, *library_files(libraries), *box_files(), Content(LOCK, lock_file)]
        parts += [Content(CONFIG, config)] if config else []
        blobs = weights | hashed(parts, on_progress, "hashing the runtime")
        made = Manifest(
            name=name,
            level=level_of(file) or UNKNOWN,
            version=__version__,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            machine=builds.MACHINE,
            python=runtime.python_version(),
            glibc=runtime.least_glibc(part.source for part in parts),
            cpu={level.name: level.flags for level in builds.LEVELS},
            files=placed(blobs),
            serve=("--ctx", str(ctx), "--slots", str(slots), *serve),
            memory=needed_memory(file, ctx, slots),
            golden=Golden(question, prefix),
            licences=tuple(sorted({*site.licences, "Apache-2.0", "MIT", *([lock.licence] if lock.licence else [])})),
        )
        try:
            signed = manifest.to_bytes(made)
            members = {MANIFEST: signed, SIGNATURE: signer.sign(signed), KEY: public, **code_members()}
            written = write(out, list(blobs.values()), members, on_progress)
        except BoxError as error:
            raise PackError(error.message, error.hint) from error
        except OSError as error:
            raise PackError(f"cannot write {out}: {error.strerror}", "free some space, or name another") from error
    return Packed(out, written.start + written.length, written, keys.fingerprint(public), made)


# --- before


def check_out(out: Path) -> None:
    """Raise PackError now for what would fail in minutes."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise PackError(f"{out} cannot be a box: its folder is missing, or it is one", "name a file after -o")


def chosen_context(file: GgufFile, ctx: int | None) -> int:
    """Tokens. Raises PackError for more than the model was trained for."""
    trained = from_gguf(file).context_length
    if ctx and trained and ctx > trained:
        raise PackError(f"the model was trained for {trained} tokens, not {ctx}", "give a smaller --ctx")
    return ctx or min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)


def questions(kiosk: Kiosk | None) -> list[str]:
    """Those that may become the golden one, the best first."""
    if kiosk and kiosk.golden:
        return [kiosk.golden.question]
    plain = golden.PLAIN[(kiosk and kiosk.language) or "en"]
    return [*(kiosk.questions if kiosk else []), plain]


def needed_memory(file: GgufFile, ctx: int, slots: int) -> int:
    """Bytes of the service once its context is full; the mapped weights are in it."""
    shape = from_gguf(file)
    return file.size + sum(context_bytes(shape, ctx, flash_attn=True, slots=slots)) + program_bytes(shape)


# --- what goes in


def check_weights(gguf: Path, found: Blob) -> None:
    """Raise PackError if the file is no longer what was converted and checked."""
    wanted = store.kept_report(gguf).get("sha256")
    if wanted is not None and wanted != found.sha256:
        raise PackError(f"{gguf} is damaged: its SHA-256 is {found.sha256}, not {wanted}", "convert the model again")


def locked(name: str, file: GgufFile, sha256: str, models: Path) -> LockedModel:
    """What is known of the model, with this file of it."""
    known = known_models(models).get(name) or LockedModel(name.lower())
    report, level = store.read_report(file.path), level_of(file)
    if level not in LEVELS:
        return known
    converter, cpu, library = (str(report.get(field) or UNKNOWN) for field in ("converter", "cpu", "library"))
    return replace(known, outputs=(Output(level, converter, cpu, library, sha256),))


def library_files(libraries: Mapping[str, Path]) -> list[Content]:
    files = [Content(f"lib/{name}", path) for name, path in libraries.items() if name != builds.LICENCE]
    return [*files, *runtime.licence_texts({"llama.cpp": libraries[builds.LICENCE]})]


def box_files() -> list[Content]:
    folder = Path(container.__file__).parent
    return [Content(f"{BOX}/{path.name}", path) for path in sorted(folder.glob("*.py"))]


def code_members() -> dict[str, bytes]:
    return {content.path: content.source.read_bytes() for content in box_files()}


def hashed(contents: Iterable[Content], on_progress: OnProgress, what: str) -> dict[str, Blob]:
    """By path in the box. Raises PackError where a file cannot be read."""
    contents = list(contents)
    done, found = 0, {}
    try:
        sizes = {content.path: content.source.stat().st_size for content in contents}
        total = sum(sizes.values())
        for content in contents:

            def count(nbytes: int) -> None:
                nonlocal done
                done += nbytes
                on_progress(what, done, total)

            sha256 = sha256_of(content.source, count)
            found[content.path] = Blob(content.source, sizes[content.path], sha256)
    except OSError as error:
        raise PackError(f"cannot read {error.filename}: {error.strerror}", "mend its rights, or the disk") from error
    return found


def placed(blobs: Mapping[str, Blob]) -> tuple[File, ...]:
    places = container.offsets(blobs.values())
    return tuple(File(path, blob.size, blob.sha256, places[blob.sha256]) for path, blob in blobs.items())


def write(out: Path, blobs: Sequence[Blob], members: Mapping[str, bytes], on_progress: OnProgress) -> container.Written:
    total, done = sum(blob.size for blob in container.distinct(blobs).values()), 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        on_progress("writing the box", done, total)

    return container.write_box(out, blobs, members, count)
