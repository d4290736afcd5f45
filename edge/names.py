"""What a person may call a model: ``qwen2.5-7b``, ``Qwen2.5:7B``, ``qwen2.5-7b-instruct``, ``org/repo``.

A model's name in the lock is its repository's in small letters, without ``-instruct`` for Qwen and ``-chat`` for GLM:
the model that answers is the plain name, and a base model ends in ``-base``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from edge.errors import ModelNotFound
from edge.lock import Lock, LockedModel, Source
from edge.lock_file import check_name, check_repo

NOT_TOLD_APART = {"instruct", "chat"}


def resolve(name: str, lock: Lock, hub: str | None = None) -> LockedModel:
    """The locked model that ``name`` means; for an unknown ``org/repo`` of ``hub``, a new entry without hashes.

    A known ``org/repo`` that the lock has at another hub only is looked for at ``hub`` too.

    Raises ModelNotFound, with the nearest names.
    """
    wanted = name.strip()
    if "/" in wanted:
        return _of_repo(wanted, lock, hub)
    if wanted.lower() in lock:
        return lock[wanted.lower()]
    alike = [model for model in lock.values() if plain(model.name) == plain(wanted)]
    if len(alike) == 1:
        return alike[0]
    near = [model.name for model in alike] or nearest(wanted, lock)
    listed = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelNotFound(f"no model is called {name!r}", f"{listed}A repository works too, as org/repo")


def plain(name: str) -> str:
    """``name`` without what does not tell models apart: case, Ollama's colon, ``instruct`` and ``chat``."""
    words = re.split(r"[-:\s]+", name.lower())
    return "-".join(word for word in words if word not in NOT_TOLD_APART)


def nearest(name: str, lock: Lock) -> list[str]:
    """Up to three names of ``lock`` that look like ``name``, the likeliest first."""
    names = {plain(known): known for known in lock}
    return [names[found] for found in difflib.get_close_matches(plain(name), names, n=3)]


def _of_repo(repo: str, lock: Lock, hub: str | None) -> LockedModel:
    for model in lock.values():
        if any(source.repo.lower() == repo.lower() for source in model.sources):
            there = hub is None or any(source.hub == hub for source in model.sources)
            return model if there else replace(model, sources=(*model.sources, Source(str(hub), repo)))
    try:
        name = check_name(check_repo(repo).lower().replace("/", "--"))
    except ValueError as error:
        raise ModelNotFound(str(error), "write it as org/repo, such as Qwen/Qwen2.5-7B-Instruct") from error
    return LockedModel(name, sources=(Source(hub or "huggingface", repo),))
