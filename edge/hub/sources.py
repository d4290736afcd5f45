"""A locked model -> where its files may come from, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import HubError
from edge.hub.folder import Folder
from edge.hub.huggingface import HuggingFace, cache_of
from edge.hub.modelscope import ModelScope
from edge.hub.source import Source
from edge.lock import LockedModel

HUBS = {"huggingface": HuggingFace, "modelscope": ModelScope}


def sources_of(model: LockedModel, chosen: Sequence[str] = (), *, offline: bool = False) -> list[Source]:
    """Those of ``chosen`` (hubs and folders), else all hubs that the lock names; ``offline``: folders alone.

    Raises HubError when the lock names no repository at a chosen hub.
    """
    found: list[Source] = [Folder(Path(name).expanduser()) for name in chosen if name not in HUBS]
    if offline:
        return found
    hubs = [name for name in chosen if name in HUBS]
    for hub in hubs:
        if not any(source.hub == hub for source in model.sources):
            raise HubError(f"models.lock has no {hub} repository for {model.name}", "name it as org/repo")
    if found and not hubs:
        return found
    locked = [source for source in model.sources if not hubs or source.hub in hubs]
    found += [HUBS[source.hub](source.repo, source.revision) for source in locked if source.revision]
    # Hubs lose revisions. The hashes decide whether what a branch holds today is the same.
    return found + [HUBS[source.hub](source.repo) for source in locked]


def caches_of(model: LockedModel) -> list[Folder]:
    """What the hubs' own programs fetched of this model earlier."""
    places = [cache_of(source.repo) for source in model.sources if source.hub == "huggingface"]
    return [Folder(place) for place in places if place.is_dir()]
