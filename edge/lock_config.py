"""What a checkpoint's config.json tells planning, in the lock's words (``edge.lock.CONFIG``). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convert.architecture import Architecture, check_hparams, find_architecture
from convert.architectures import REGISTRY
from convert.errors import CheckpointError
from convert.hparams import HParams, head_dim, kv_heads, read_hparams
from edge.lock import CONFIG

EVERY_FAMILY = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


@dataclass(frozen=True)
class LockedFacts:
    """For ``LockedModel``. ``context_length`` in tokens, as the GGUF will state it."""

    architecture: str
    context_length: int
    config: dict[str, int | bool]


def facts_of(config: Mapping[str, Any]) -> LockedFacts:
    """The facts of one checkpoint, whose config.json may hold anything.

    Raises UnsupportedError for a family or a value that cannot be converted, CheckpointError for one that makes no
    sense.
    """
    if not isinstance(config, Mapping):
        raise CheckpointError("config.json does not hold a JSON object")
    try:
        family = find_architecture(config, REGISTRY)
        hparams = checked_hparams(family, config)
    except RecursionError as error:  # from the text of such a value, for a message
        raise CheckpointError("config.json holds lists or objects nested too deep") from error
    facts = {
        **{key: hparams[key] for key in (*EVERY_FAMILY, *family.sizes)},
        "tie_word_embeddings": bool(hparams["tie_word_embeddings"]),  # some families take 0 as well
        **feed_forward(family, hparams),
        **attention(family, hparams),
    }
    return LockedFacts(
        architecture=config["architectures"][0],
        context_length=hparams["max_position_embeddings"],
        config={key: facts[key] for key in CONFIG if facts.get(key) is not None},
    )


def checked_hparams(family: Architecture, config: HParams) -> HParams:
    """Every check that a conversion makes of the config alone, before there are tensors."""
    hparams = read_hparams(config, family.aliases, family.defaults)
    hparams["block_count"] = hparams["num_hidden_layers"]
    return check_hparams(family, config, hparams, frozenset())


def feed_forward(family: Architecture, hparams: HParams) -> dict[str, int | None]:
    width = hparams.get("intermediate_size")
    facts = {"intermediate_size": width // 2 if family.name == "qwen" and width else width}
    if "shared_expert_intermediate_size" in family.sizes:  # GLM counts experts where Qwen gives their common width
        facts["n_shared_experts"] = -(-hparams["shared_expert_intermediate_size"] // hparams["moe_intermediate_size"])
    if "n_shared_experts" in family.sizes:
        facts["first_k_dense_replace"] = hparams["first_k_dense_replace"]
    return facts


def attention(family: Architecture, hparams: HParams) -> dict[str, int | None]:
    if "kv_lora_rank" in family.sizes:  # no head shares keys, and the parts of a head have sizes of their own
        return {"num_key_value_heads": hparams["num_attention_heads"], "head_dim": None}
    facts: dict[str, int | None] = {"num_key_value_heads": kv_heads(hparams), "head_dim": head_dim(hparams)}
    if "full_attention_interval" in family.sizes:
        # The list of layers decides, and the config's interval may be missing beside it.
        kinds = hparams["layer_types"]
        facts["full_attention_interval"] = len(kinds) // kinds.count("full_attention")
    return facts
