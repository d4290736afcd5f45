"""A model's name -> its checkpoint on this machine, fetched and checked if need be; what was learned is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge import names, store
from edge.busy import only_one
from edge.errors import HubError
from edge.hub.backoff import RateLimit
from edge.lock import LockedModel, merge_model
from edge.lock_file import HUBS
from edge.pull import NO_SOURCE, OnProgress, Pulled, pin, pull
from edge.receipt import read_receipt
from edge.user_lock import known_models, remember


@dataclass(frozen=True)
class From:
    """Where to fetch from: ``sources`` are hubs and folders, tried in order (none: what the lock names).

    ``offline`` is empty or says what forbids the network; ``rate`` is in bytes a second.
    """

    sources: tuple[str, ...] = ()
    offline: str = ""
    rate: float | None = None

    @property
    def hub(self) -> str | None:
        """The hub that was asked for, if one was."""
        return next((source for source in self.sources if source in HUBS), None)

    @property
    def forbidden_by(self) -> str:
        """What forbids the network; empty if nothing does. The words for true are those of huggingface-hub."""
        is_set = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        return self.offline or ("HF_HUB_OFFLINE" if is_set else "")


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
    distrusted: Collection[str] = (),
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Have ``model``'s files in ``folder``: all that a conversion needs, or those of ``only``.

    Nothing is asked of anybody when all is there, unchanged since it was fetched. Raises EdgeError.
    """
    model = as_known_now(model, models)
    receipt = read_receipt(folder, model.name)
    # Files that no lock knows any more are compared with a source's: a person may have wanted it so.
    agreed = receipt.agrees(model.files, unknown_ok=bool(where.forbidden_by))
    if not only and receipt.holds(folder) and agreed:
        return Pulled(folder, model, tuple(receipt.files), 0)
    # Imported here: huggingface-hub takes a quarter of a second, and most commands need no network.
    from edge.hub.sources import caches_of, sources_of

    return pull(
        model,
        folder,
        sources_of(model, where.sources, offline=bool(where.forbidden_by)),
        caches=caches_of(model) if not where.sources else [],
        only=only,
        distrusted=distrusted,
        limit=RateLimit(where.rate),
        failure=not_whole(model, folder, where),
        learned=lambda learned: remember(models, learned),
        on_progress=on_progress,
    )


def pin_model(
    model: LockedModel,
    folder: Path,
    models: Path,
    where: From = From(),
    on_progress: OnProgress = lambda what, done, of: None,
) -> Pulled:
    """Learn what ``model`` is without fetching its weights, and keep it in the user's lock. Raises EdgeError."""
    from edge.hub.folder import Folder
    from edge.hub.sources import sources_of

    model = as_known_now(model, models)
    sources = sources_of(model, where.sources, offline=bool(where.forbidden_by))
    if all(isinstance(source, Folder) for source in sources):
        why = f"{where.forbidden_by} forbids the network, and only" if where.forbidden_by else "only"
        hint = "name a hub, or run: edge pull --source FOLDER, which hashes what it takes"
        raise HubError(f"{why} a hub tells the hashes of files that are not fetched", hint)
    pulled = pin(model, folder, sources, on_progress)
    remember(models, pulled.model)
    return pulled


def as_known_now(model: LockedModel, models: Path) -> LockedModel:
    """``model`` with what another process learned while this one waited for it."""
    known = known_models(models).get(model.name)
    return model if known is None else merge_model(known, replace(model, files=(), outputs=()))


def not_whole(model: LockedModel, folder: Path, where: From) -> HubError:
    if not where.forbidden_by:
        return NO_SOURCE
    return HubError(
        f"{model.name} is not whole in {folder}, and {where.forbidden_by} forbids the network",
        "name a folder that has its files with --source, or run without it",
    )
