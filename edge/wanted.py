"""Which files of a repository to fetch, and whether they are the locked ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from convert.errors import EdgeError
from edge.errors import HubError
from edge.hub.backoff import PATIENCE, SHORT_PATIENCE, patiently
from edge.hub.download import all_failed
from edge.hub.folder import Folder
from edge.hub.source import Cut, Listing, RemoteFile, Source
from edge.lock import LockedModel, LockError
from edge.lock_file import check_file_name, fits

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
WEIGHTS = "model*.safetensors"
# What the converter and the gate read beside the weights. Never Python, never a pickle.
SMALL = (
    CONFIG,
    INDEX,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)


@dataclass(frozen=True)
class Offer:
    """What there is to fetch, and from whom; ``failure`` is what to say of a file that none of them has."""

    listing: Listing
    sources: list[Source]
    failure: EdgeError


def first_offer(model: LockedModel, sources: Sequence[Source], failure: EdgeError) -> Offer:
    """The first listing that agrees with the lock, and the sources that are not known to fail, in their order.

    Hubs are asked first. Where none answers, a lock that knows all files of the model lists them: they may be here
    already. Folders may hold some files only, or hold them under other names. ``failure`` is for when there are no
    ``sources``. Raises HubError, LockError.
    """
    failed: dict[Source, EdgeError] = {}
    hubs = [source for source in sources if not isinstance(source, Folder)]
    folders: list[Source] = [source for source in sources if isinstance(source, Folder)]
    for place, source in enumerate(hubs):
        try:
            listing = patiently(source.listing, SHORT_PATIENCE if place < len(hubs) - 1 else PATIENCE)
            return Offer(locked_listing(model, listing), [one for one in sources if one not in failed], failure)
        except (HubError, LockError) as error:
            failed[source] = error
        except Cut as cut:
            failed[source] = HubError(f"{source.where}: {cut}", "try again later")
    if model.complete and not any(isinstance(error, LockError) for error in failed.values()):
        listing = Listing(tuple(RemoteFile(file.name, file.size, file.sha256) for file in model.files))
        return Offer(listing, folders, all_failed(list(failed.values())) if failed else failure)
    for source in folders:
        try:
            return Offer(locked_listing(model, source.listing()), folders, failure)
        except (HubError, LockError) as error:
            failed[source] = error
    raise all_failed(list(failed.values())) if failed else failure


def locked_listing(model: LockedModel, listing: Listing) -> Listing:
    """``listing`` with what the lock knows of its files. Raises LockError, naming both values, where they differ."""
    locked = {file.name: file for file in model.files}

    def check(file: RemoteFile) -> RemoteFile:
        if (known := locked.get(file.name)) is None:
            return file
        for what in ("size", "sha256"):
            listed, wanted = getattr(file, what), getattr(known, what)
            if listed not in (None, wanted):
                raise LockError(
                    f"{model.name}: {what} of {file.name} is locked as {wanted}, but the source lists {listed}",
                    "the repository has changed since, or the lock is wrong: EDGE_LOCK names another lock",
                )
        return replace(file, sha256=known.sha256)

    return replace(listing, files=tuple(check(file) for file in listing.files))


def chosen(model: LockedModel, listing: Listing, names: Sequence[str]) -> list[RemoteFile]:
    """The files that ``names`` (names or globs) mean. Raises HubError for one that means none, or is never fetched."""
    found: dict[str, RemoteFile] = {}
    for name in names:
        exact = [file for file in listing.files if file.name == name]
        globbed = [file for file in listing.files if fnmatchcase(file.name, name)]
        matching = safe(exact) or [file for file in globbed if fits(check_file_name, file.name)]
        if not matching:
            near = ", ".join(
                file.name for file in listing.files if file.name.endswith((".safetensors", ".gguf", ".json"))
            )
            raise HubError(f"{model.name} has no file {name}", f"it has {near[:300]}" if near else "")
        found |= {file.name: file for file in matching}
    return list(found.values())


def small(listing: Listing) -> list[RemoteFile]:
    """What a conversion needs beside the weights, the config first. Raises HubError where it is no checkpoint."""
    if not any(file.name == CONFIG for file in listing.files):
        ggufs = [file.name for file in listing.files if file.name.endswith(".gguf")]
        hint = f"it has GGUF files; name one, such as {ggufs[0]}" if ggufs else "is it a model for transformers?"
        raise HubError(f"there is no {CONFIG}", hint)
    found = [file for file in listing.files if any(within_folder(file.name, pattern) for pattern in SMALL)]
    return safe(sorted(found, key=lambda file: (file.name != CONFIG, file.name)))


def weights(listing: Listing, shards: set[str] | None) -> list[RemoteFile]:
    """The shards that the index names, or those there are. Raises HubError where some are missing."""
    by_name = {file.name: file for file in listing.files if within_folder(file.name, WEIGHTS)}
    if shards is not None:
        by_name |= {file.name: file for file in listing.files if file.name in shards}
        if missing := sorted(shards - by_name.keys()):
            raise HubError(f"the source has no {missing[0]}, which {INDEX} names", "try another source")
        return safe([by_name[name] for name in sorted(shards)])
    if not by_name:
        pickles = any(file.name.endswith((".bin", ".pt", ".pth")) for file in listing.files)
        why = "its weights are pickles, which can run code when read and are never fetched" if pickles else "no weights"
        raise HubError(f"the source has no {WEIGHTS}: {why}", "look for a repository with safetensors")
    return safe([by_name[name] for name in sorted(by_name)])


def within_folder(name: str, pattern: str) -> bool:
    """Whether ``name`` matches; a pattern's ``*`` stays within one folder."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def safe(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """``files``, whose names become paths. Raises HubError for a name that may not, and for code and pickles."""
    for file in files:
        try:
            check_file_name(file.name)
        except ValueError as error:
            raise HubError(str(error), "such files are never fetched") from error
    return list(files)
