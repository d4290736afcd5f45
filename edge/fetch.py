"""A model's name -> its checkpoint on this machine, fetched and checked if need be; what was learned is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge import names, store
from edge.busy import only_one
from edge.errors import HubError
from edge.hub.backoff import RateLimit
from edge.hub.folder import Folder
from edge.hub.source import Source
from edge.lock import LockedModel
from edge.pull import OnProgress, Pulled, pin, pull
from edge.receipt import read_receipt
from edge.user_lock import known_models, remember


@dataclass(frozen=True)
class From:
    """Where to fetch from: ``sources`` are hubs and folders, tried in order (none: what the lock names).

    ``rate`` in bytes a second.
    """

    sources: tuple[str, ...] = ()
    offline: bool = False
    rate: float | None = None

    @property
    def hub(self) -> str:
        """Which hub an ``org/repo`` that no lock knows is at."""
        return next((source for source in self.sources if source == "modelscope"), "huggingface")


def no_network() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids it; the words are those of huggingface-hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def find_model(text: str, models: Path, where: From = From()) -> LockedModel:
    """What ``text`` means by the locks. Raises ModelNotFound, with the nearest names."""
    return names.resolve(text, known_models(models), where.hub)


@contextmanager
def holding(
    model: LockedModel, models: Path, say: Callable[[str], None], local_dir: Path | None = None
) -> Iterator[Path]:
    """The folder of ``model``'s checkpoint, in the store or ``local_dir``, while no other process works on it."""
    if local_dir is not None:
        guard, what, folder = local_dir / ".edge-pull.lock", str(local_dir), local_dir
    else:
        guard, what = models / ".locks" / f"{model.name}.lock", model.name
        folder = store.checkpoint_path(models, model.name)
    with only_one(guard, what, say):
        yield folder


def fetch(
    model: LockedModel,
    folder: Path,
    models: Path,
    where: From = From(),
    *,
    only: tuple[str, ...] = (),
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Have ``model``'s files in ``folder``: all that a conversion needs, or those of ``only``.

    Nothing is asked of anybody when all is there, unchanged since it was fetched. Raises EdgeError.
    """
    receipt = read_receipt(folder)
    # Files that no lock knows any more are compared with a source's: a person may have wanted it so.
    agreed = receipt.agrees(model.files, unknown_ok=where.offline or no_network())
    if not only and receipt.holds(folder) and agreed:
        return Pulled(folder, model, tuple(receipt.files), 0)
    sources, caches = all_sources(model, folder, where)
    pulled = pull(
        model, folder, sources, caches=caches, only=only, limit=RateLimit(where.rate), on_progress=on_progress
    )
    remember(models, pulled.model)
    return pulled


def pin_model(
    model: LockedModel,
    folder: Path,
    models: Path,
    where: From = From(),
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Learn what ``model`` is without fetching its weights, and keep it in the user's lock. Raises EdgeError."""
    sources, _ = all_sources(model, folder, where)
    pulled = pin(model, folder, sources, on_progress)
    remember(models, pulled.model)
    return pulled


def all_sources(model: LockedModel, folder: Path, where: From) -> tuple[list[Source], list[Folder]]:
    """The sources to ask, and the caches beside them. Raises HubError when there is none without a network."""
    # Imported here: huggingface-hub takes a quarter of a second, and most commands need no network.
    from edge.hub.sources import caches_of, sources_of

    sources = sources_of(model, where.sources, offline=where.offline or no_network())
    if not sources:
        what = "--offline" if where.offline else "HF_HUB_OFFLINE"
        raise HubError(
            f"{model.name} is not whole in {folder}, and {what} forbids the network",
            "name a folder that has its files with --source, or run without it",
        )
    return sources, caches_of(model) if not where.sources else []
