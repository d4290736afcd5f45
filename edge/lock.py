"""Which bytes a model's name means. Data; ``edge.lock_file`` reads and writes it.

One lock is shipped with the program and is never changed. Another, the user's own, holds what was learned at the
first download; where both speak of the same bytes they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from convert.errors import EdgeError

# What planning reads of a config.json, in one spelling and one meaning for every family: sizes are those of one
# layer, head or expert; intermediate_size is one branch of the feed-forward (Qwen-1's own file counts two).
CONFIG = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
    # mixtures of experts
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_shared_experts",
    "first_k_dense_replace",
    # latent attention
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    # linear attention
    "full_attention_interval",
    "linear_conv_kernel_dim",
    "linear_num_key_heads",
    "linear_key_head_dim",
    "linear_num_value_heads",
    "linear_value_head_dim",
)


class LockError(EdgeError):
    """A lock that cannot be read or written, or two that name different bytes."""


@dataclass(frozen=True)
class Source:
    """A repository that has the files. ``revision`` is a hint: hubs lose revisions, the hashes decide."""

    hub: str
    repo: str
    revision: str | None = None

    @property
    def place(self) -> tuple[str, str]:
        return self.hub, self.repo.lower()  # no hub tells cases apart


@dataclass(frozen=True)
class LockedFile:
    """``name`` is a path below the checkpoint's folder, with slashes; ``size`` in bytes; ``sha256`` in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Output:
    """A GGUF made from these files: the recipe (level, converter), where it ran (cpu, library), what came out.

    Only results with the same four can be compared: kernels round differently on another CPU or in another build.
    """

    level: str
    converter: str
    cpu: str
    library: str
    sha256: str

    @property
    def made_by(self) -> tuple[str, str, str, str]:
        return self.level, self.converter, self.cpu, self.library


@dataclass(frozen=True)
class LockedModel:
    """All that is known of a model; what is not known is None or absent. ``context_length`` in tokens.

    ``complete``: ``files`` are all that a conversion needs.
    """

    name: str
    architecture: str | None = None
    licence: str | None = None
    context_length: int | None = None
    config: Mapping[str, int | bool] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    files: tuple[LockedFile, ...] = ()
    complete: bool = False
    outputs: tuple[Output, ...] = ()


Lock = Mapping[str, LockedModel]  # by name


def merge(shipped: Lock, user: Lock) -> Lock:
    """Both locks as one; the shipped one's words win. Raises LockError where they name different bytes."""
    models = dict(shipped)
    by_place = {source.place: name for name, model in shipped.items() for source in model.sources}
    for model in user.values():
        # A repository that the user locked under its own name may be shipped under a friendly one since.
        name = next((by_place[source.place] for source in model.sources if source.place in by_place), model.name)
        models[name] = merge_model(models[name], model) if name in models else model
    return models


def merge_model(known: LockedModel, learned: LockedModel) -> LockedModel:
    """What is known and what was learned, as one entry. Raises LockError where they name different bytes."""
    files = {file.name: file for file in known.files}
    for file in learned.files:
        for what in ("size", "sha256"):
            _same(f"{known.name}: {what} of {file.name}", files.get(file.name), file, what)
        files[file.name] = file
    sources = {source.place: source for source in known.sources}
    for source in learned.sources:
        if source.place not in sources or sources[source.place].revision is None:
            sources[source.place] = source
    outputs = {output.made_by: output for output in known.outputs}
    for output in learned.outputs:
        where = f"{known.name}: sha256 of {output.level} made by {output.converter} with {output.library}"
        _same(f"{where} on {output.cpu}", outputs.get(output.made_by), output, "sha256")
        outputs[output.made_by] = output
    return replace(
        known,
        architecture=known.architecture or learned.architecture,
        licence=known.licence or learned.licence,
        context_length=known.context_length or learned.context_length,
        config={**learned.config, **known.config},
        sources=tuple(sources.values()),
        files=tuple(files.values()),
        complete=known.complete or learned.complete,
        outputs=tuple(outputs.values()),
    )


def _same(where: str, old: object | None, new: object, what: str) -> None:
    if old is not None and getattr(old, what) != getattr(new, what):
        raise LockError(
            f"{where} is locked as {getattr(old, what)}, but is {getattr(new, what)}",
            "it was changed or damaged since; to accept the change, take the model out of your own models.lock,"
            " or name another lock with EDGE_LOCK",
        )
