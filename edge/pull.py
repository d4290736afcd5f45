"""Fetch what a conversion needs of a model from whichever source serves it, and learn what was not known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from convert.checkpoint import read_index, read_json, refuse_quantized
from convert.errors import EdgeError
from edge.errors import HubError, StoreError
from edge.hashing import git_blob_of, sha256_of
from edge.hub.backoff import RateLimit
from edge.hub.download import fetch_file
from edge.hub.folder import Folder
from edge.hub.partial import partial_path, tidy
from edge.hub.source import Listing, RemoteFile, Source
from edge.lock import LockedFile, LockedModel, merge_model
from edge.lock_config import facts_of
from edge.receipt import Fetched, Receipt, fetched_now, read_receipt, write_receipt
from edge.text import size_text
from edge.wanted import CONFIG, Offer, chosen, first_offer, small, weights

NO_SOURCE = HubError("no source of these files is known", "name one with --source")
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
    distrusted: Collection[str] = (),
    limit: RateLimit | None = None,
    failure: EdgeError = NO_SOURCE,
    learned: Callable[[LockedModel], None] = lambda model: None,
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Fetch ``model``'s files into ``folder``: those of ``only`` (names or globs), else all that a conversion needs.

    A file that is there with the right hash is left alone; for ``distrusted`` ones it is computed again. The config
    is read before any weights are fetched. ``caches`` serve bytes whose hash is known, and list nothing. ``learned``
    hears what is known now, before all is noted as complete: a kill in between lets it be learned again. Raises
    HubError; LockError where a source has other bytes than the lock; UnsupportedError for a model that no conversion
    knows; ``failure`` where a file is missing and there is no source.
    """
    with writing(folder):
        offer = first_offer(model, sources, failure)
        receipt = read_receipt(folder, model.name)
        trusted = {name: fetched for name, fetched in receipt.files.items() if name not in distrusted}
        receipt = replace(receipt, files=trusted, complete=receipt.complete and bool(only))
        fetching = Fetching(model, folder, offer, caches, receipt, limit, on_progress)
        if only:
            fetching.fetch(chosen(model, offer.listing, only))
        else:
            fetching.fetch(checkpoint_files(fetching, offer.listing))
        fetching.learn(replace(of_listing(model, offer.listing), complete=not only))
        learned(fetching.model)
        write_receipt(folder, fetching.receipt if only else replace(fetching.receipt, complete=True))
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
    with writing(folder):
        offer = first_offer(model, sources, NO_SOURCE)
        fetching = Fetching(model, folder, offer, (), read_receipt(folder, model.name), None, on_progress)
        files = checkpoint_files(fetching, offer.listing)
        listed = tuple(LockedFile(file.name, file.size, file.sha256) for file in files if file.sha256)
        fetching.learn(replace(of_listing(model, offer.listing), files=listed))
        hashes = {file.name for file in fetching.model.files}
        fetching.learn(replace(fetching.model, complete=all(file.name in hashes for file in files)))
        write_receipt(folder, fetching.receipt)
    return Pulled(folder, fetching.model, tuple(fetching.done), fetching.fetched_bytes)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what keeps files from being written below ``folder`` into a StoreError."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        hint = "free some space, mend the rights, or choose another place"
        raise StoreError(f"cannot write {where}: {error.strerror or error}", hint) from error


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
        offer: Offer,
        caches: Sequence[Folder],
        receipt: Receipt,
        limit: RateLimit | None,
        on_progress: OnProgress,
    ) -> None:
        self.model, self.folder, self.fetched_bytes = model, folder, 0
        self.done: dict[str, Fetched] = {}
        self._offer, self._caches, self._before = offer, caches, receipt
        self._limit, self._on_progress = limit, on_progress

    @property
    def receipt(self) -> Receipt:
        return replace(self._before, files={**self._before.files, **self.done})

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
            sources = [*(self._caches if file.identity else ()), *self._offer.sources]
            if not sources:
                raise self._offer.failure
            target = self.folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            found = fetch_file(
                sources,
                file,
                target,
                limit=self._limit,
                progress=lambda nbytes, name=file.name: progress(name, nbytes),
            )
            self._keep(file, found)
            write_receipt(self.folder, self.receipt)  # a kill must not cost hashing this one again
            self.fetched_bytes += file.size

    def _is_here(self, file: RemoteFile, on_bytes: Callable[[int], None]) -> bool:
        """Whether the folder has the file; one put there by hand is adopted when its hash is the known one."""
        path = self.folder / file.name
        if file.name in self.done:
            return True
        noted = self._before.files.get(file.name)
        if noted is not None and noted.still(path) and may_be(file, noted):
            self._keep(file, noted.sha256)
            return True
        try:
            if not path.is_file() or path.stat().st_size != file.size or file.identity is None:
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
        tidy(self.folder / file.name)


def may_be(file: RemoteFile, noted: Fetched) -> bool:
    """Whether the receipt's word is enough; where the source tells only git's hash, the (small) file is read."""
    known = file.sha256 == noted.sha256 if file.sha256 else file.blob is None
    return known and file.size == noted.size


def check_room(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raises HubError, with both numbers, when the disk cannot hold what is still to come."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(file.size - occupied(partial_path(folder / file.name)) for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise HubError(
            f"{size_text(needed)} are still to come, and {folder} has room for {size_text(free)}",
            "free some space, or choose another place with --models-dir or --local-dir",
        )


def occupied(path: Path) -> int:
    """Bytes of disk that a file takes, which for one with holes are less than its size; 0 if there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    return stat.st_size if os.name == "nt" else min(stat.st_size, stat.st_blocks * 512)
