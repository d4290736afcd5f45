"""Fetch what a conversion needs of a locked model, from whichever of its sources serves it; learn what was not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from edge.errors import HubError
from edge.hub.backoff import RateLimit
from edge.hub.download import fetch_file
from edge.hub.source import Listing, RemoteFile, Source
from edge.lock import LockedFile, LockedModel, merge_model
from edge.lock_file import check_file_name

# What the converter and the gate read. Never Python, never a pickle.
NEEDED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "qwen.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "model.safetensors.index.json",
    "*.safetensors",
)

OnProgress = Callable[[str, int, int], None]  # file, bytes there, of how many


@dataclass(frozen=True)
class Pulled:
    """What is in the folder now; ``model`` is the lock's entry with all that was learned."""

    folder: Path
    model: LockedModel


def is_needed(name: str) -> bool:
    """A pattern's ``*`` stays within one folder."""
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in NEEDED)


def pull(
    model: LockedModel,
    folder: Path,
    sources: Sequence[Source],
    *,
    only: Sequence[str] = (),
    limit: RateLimit | None = None,
    on_progress: OnProgress = lambda name, done, of: None,
) -> Pulled:
    """Fetch ``model``'s files into ``folder``: those of ``only``, else all that a conversion needs.

    A file that is there with the right hash is left alone. Raises HubError, and LockError where a source lists other
    bytes than the lock has.
    """
    listing, able = first_listing(sources)
    learned = model
    for file in wanted(model, listing, only):
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        done = 0

        def progress(nbytes: int, file: RemoteFile = file) -> None:
            nonlocal done
            done += nbytes
            on_progress(file.name, done, file.size)

        found = fetch_file(able, file, target, limit=limit, progress=progress)
        learned = merge_model(learned, replace(model, files=(LockedFile(file.name, file.size, found),)))
    return Pulled(folder, replace(learned, licence=learned.licence or listing.licence))


def first_listing(sources: Sequence[Source]) -> tuple[Listing, list[Source]]:
    """The first listing to be had, and the sources from there on. Raises HubError naming every failure."""
    failed: list[HubError] = []
    for place, source in enumerate(sources):
        try:
            return source.listing(), list(sources[place:])
        except HubError as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    raise HubError("; ".join(error.message for error in failed) or "no source is known", "try again later")


def wanted(model: LockedModel, listing: Listing, only: Sequence[str]) -> list[RemoteFile]:
    """The files to fetch, with the lock's sizes and hashes where it has them."""
    locked = {file.name: file for file in model.files}
    found = []
    for remote in listing.files:
        if remote.name in only or (not only and is_needed(remote.name)):
            check_file_name(remote.name)
            known = locked.get(remote.name)
            found.append(RemoteFile(known.name, known.size, known.sha256) if known else remote)
    if missing := sorted({*only} - {file.name for file in found}):
        raise HubError(f"{model.name} has no file {missing[0]}", "leave the names out to fetch what is needed")
    return found
