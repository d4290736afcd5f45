"""Fetch what a conversion needs of a model from whichever source serves it, and learn what was not known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convert.checkpoint import read_index, read_json, refuse_quantized
from edge.errors import HubError
from edge.hashing import git_blob_of, sha256_of
from edge.hub.backoff import RateLimit
from edge.hub.download import fetch_file
from edge.hub.folder import Folder
from edge.hub.partial import partial_path
from edge.hub.source import Listing, RemoteFile, Source
from edge.lock import LockedFile, LockedModel, merge_model
from edge.lock_config import facts_of
from edge.receipt import Fetched, Receipt, fetched_now, read_receipt, write_receipt
from edge.wanted import CONFIG, chosen, first_listing, small, weights

CHECKING = "checking"  # what is done while files that are there already are hashed
OnProgress = Callable[[str, int, int], None]  # what is being done, bytes there of all files so far known, of how many


@dataclass(frozen=True)
class Pulled:
    """``files`` are in ``folder`` now; ``model`` is the lock's entry with all that was learned."""

    folder: Path
    model: LockedModel
    files: tuple[str, ...]
    fetched_bytes: int


def pull(
    model: LockedModel,
    folder: Path,
    sources: Sequence[Source],
    *,
    caches: Sequence[Folder] = (),
    only: Sequence[str] = (),
    limit: RateLimit | None = None,
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Fetch ``model``'s files into ``folder``: those of ``only`` (names or globs), else all that a conversion needs.

    A file that is there with the right hash is left alone. The config is read before any weights are fetched.
    ``caches`` serve bytes whose hash is known, and list nothing. Raises HubError; LockError where a source has other
    bytes than the lock; UnsupportedError for a model that no conversion knows.
    """
    listing, able = first_listing(model, sources)
    receipt = read_receipt(folder)
    fetching = Fetching(model, folder, [*caches, *able], receipt, limit, on_progress)
    if only:
        fetching.fetch(chosen(model, listing, only))
    else:
        fetching.fetch(checkpoint_files(fetching, listing))
    fetching.learn(of_listing(model, listing))
    write_receipt(folder, Receipt({**receipt.files, **fetching.done}, receipt.complete if only else True))
    return Pulled(folder, fetching.model, tuple(fetching.done), fetching.fetched_bytes)


def pin(
    model: LockedModel,
    folder: Path,
    sources: Sequence[Source],
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Learn all that the lock can hold of ``model``, without its weights: their hashes are those the source lists.

    The small files, whose hashes hubs do not tell, are fetched into ``folder``. Raises as ``pull`` does.
    """
    listing, able = first_listing(model, sources)
    receipt = read_receipt(folder)
    fetching = Fetching(model, folder, able, receipt, None, on_progress)
    files = checkpoint_files(fetching, listing)
    listed = tuple(LockedFile(file.name, file.size, file.sha256) for file in files if file.sha256)
    fetching.learn(replace(of_listing(model, listing), files=listed))
    write_receipt(folder, Receipt({**receipt.files, **fetching.done}, receipt.complete))
    return Pulled(folder, fetching.model, tuple(fetching.done), fetching.fetched_bytes)


def checkpoint_files(fetching: Fetching, listing: Listing) -> list[RemoteFile]:
    """All that a conversion needs. The small ones are fetched: they tell which are the others.

    Raises UnsupportedError, CheckpointError for a model that cannot be converted, before its weights are asked for.
    """
    fetching.fetch(first := small(listing))
    fetching.learn(read_facts(fetching.model, fetching.folder))
    index = read_index(fetching.folder)
    return [*first, *weights(listing, None if index is None else set(index.values()))]


def of_listing(model: LockedModel, listing: Listing) -> LockedModel:
    """What the listing itself tells."""
    return replace(model, licence=listing.licence, sources=(listing.pin,) if listing.pin else (), files=())


def read_facts(model: LockedModel, folder: Path) -> LockedModel:
    """What the config tells. Raises UnsupportedError, CheckpointError where it cannot be converted."""
    config = read_json(folder / CONFIG)
    refuse_quantized(config)
    facts = facts_of(config)
    return replace(
        model,
        architecture=facts.architecture,
        context_length=facts.context_length,
        config=facts.config,
        files=(),
    )


class Fetching:
    """The files of one model on their way: ``done``, and ``model`` as it is known by now."""

    def __init__(
        self,
        model: LockedModel,
        folder: Path,
        sources: Sequence[Source],
        receipt: Receipt,
        limit: RateLimit | None,
        on_progress: OnProgress,
    ) -> None:
        self.model, self.fetched_bytes = model, 0
        self.done: dict[str, Fetched] = {}
        self.folder, self._sources, self._receipt = folder, sources, receipt
        self._limit, self._on_progress = limit, on_progress

    def learn(self, learned: LockedModel) -> None:
        self.model = merge_model(self.model, learned)

    def fetch(self, files: Sequence[RemoteFile]) -> None:
        """Every one of ``files`` that is not there yet. Raises HubError, LockError."""
        total, done = sum(file.size for file in files), 0

        def progress(what: str, nbytes: int) -> None:
            nonlocal done
            done += nbytes
            self._on_progress(what, done, total)

        missing = [file for file in files if not self._is_here(file, lambda nbytes: progress(CHECKING, nbytes))]
        done = total - sum(file.size for file in missing)
        check_room(self.folder, missing)
        for file in missing:
            target = self.folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            found = fetch_file(
                self._sources,
                file,
                target,
                limit=self._limit,
                progress=lambda nbytes, name=file.name: progress(name, nbytes),
            )
            self._keep(file, found)
            self.fetched_bytes += file.size

    def _is_here(self, file: RemoteFile, on_bytes: Callable[[int], None]) -> bool:
        """Whether the folder has the file; one put there by hand is adopted when its hash is the known one."""
        path = self.folder / file.name
        if file.name in self.done:
            return True
        noted = self._receipt.files.get(file.name)
        if noted is not None and noted.still(path) and file.sha256 in (None, noted.sha256):
            self._keep(file, noted.sha256)
            return True
        try:
            if not path.is_file() or path.stat().st_size != file.size or (file.sha256 or file.blob) is None:
                return False
            found = sha256_of(path, on_bytes)
            right = found == file.sha256 if file.sha256 else git_blob_of(path) == file.blob
        except OSError:
            return False
        if right:
            self._keep(file, found)
        return right

    def _keep(self, file: RemoteFile, sha256: str) -> None:
        self.learn(replace(self.model, files=(LockedFile(file.name, file.size, sha256),)))
        self.done[file.name] = fetched_now(self.folder / file.name, sha256)


def check_room(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raises HubError, with both numbers, when the disk cannot hold what is still to come."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size - occupied(partial_path(folder / file.name)) for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            f"{needed / 1e9:.1f} GB are still to come, and {folder} has room for {free / 1e9:.1f} GB",
            "free some space, or choose another place with --models-dir or --local-dir",
        )


def occupied(path: Path) -> int:
    """Bytes of disk that a file takes, which for one with holes are less than its size; 0 if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    return stat.st_size if os.name == "nt" else min(stat.st_size, stat.st_blocks * 512)
