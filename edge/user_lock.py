"""The user's own lock, in the models folder: what was learned at first downloads and conversions."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from edge.lock import Lock, LockedModel, merge, merge_model
from edge.lock_file import read_lock, shipped_path, write_lock


def lock_path(models: Path) -> Path:
    return models / "models.lock"


def known_models(models: Path) -> Lock:
    """The shipped lock and the user's as one. Raises LockError."""
    return merge(read_lock(shipped_path()), read_lock(lock_path(models), missing_ok=True))


def remember(models: Path, learned: LockedModel) -> None:
    """Add to the user's lock. Raises LockError where a lock speaks of other bytes, and leaves it as it was."""
    path = lock_path(models)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        user = dict(read_lock(path, missing_ok=True))
        user[learned.name] = merge_model(user.get(learned.name, LockedModel(learned.name)), learned)
        merge(read_lock(shipped_path()), user)
        write_lock(path, user)
