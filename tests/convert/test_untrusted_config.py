"""config.json is untrusted: whatever value a key has, the answer is a plan or one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from convert.architecture import plan
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint
from convert.errors import EdgeError
from convert.file_plan import plan_files
from convert.writer import header_bytes
from tests.checkpoints import FAMILIES
from tests.convert.small import Small, all_paths, is_nested, with_value

EACH = [family for family in FAMILIES if not family.endswith("-text")]  # those are the same without vision
WRONG: list[Any] = [None, "x", -1, 0, 1.5, True, [], [None], {}, {"a": 1}, 10**400, 1e308, float("inf")]
YARN = {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 1.0}
ROPE_KEYS = (
    *YARN,
    *("type", "attention_factor", "attn_factor", "beta_fast", "beta_slow", "truncate", "extrapolation_factor"),
    *("original_max_position_embeddings", "partial_rotary_factor", "mrope_section"),
)


def known_paths(checkpoint: Checkpoint) -> set[tuple[str, ...]]:
    """The keys of the file, and those that its family reads."""
    architecture = REGISTRY[checkpoint.config["architectures"][0]]
    read = {*architecture.defaults, *architecture.aliases, *architecture.sizes, "rope_scaling", "rope_parameters"}
    read |= {rule.key for rule in architecture.honoured}
    inside = ("text_config",) if is_nested(checkpoint.config) else ()
    paths = {*all_paths(checkpoint.config), *((*inside, key) for key in read)}
    return {path for path in paths if path[0] != "vision_config" or len(path) == 1}


def answer(checkpoint: Checkpoint, config: dict[str, Any]) -> bool:
    """True for a plan that can be written, False for a refusal in one line; anything else fails."""
    try:
        model = plan(replace(checkpoint, config=config), REGISTRY)
        header_bytes([*model.metadata, *model.family_metadata], [])
    except EdgeError as error:
        assert "\n" not in str(error) and len(error.message) < 300
        return False
    return True


@pytest.mark.parametrize("family", EACH)
def test_any_value_of_any_key(small: Small, family: str) -> None:
    """Regression: numbers beyond a float, half a group of experts, no intermediate_size ended in a traceback."""
    checkpoint = small(family)
    assert answer(checkpoint, checkpoint.config)
    for path in known_paths(checkpoint):
        for value in WRONG:
            answer(checkpoint, with_value(checkpoint.config, path, value))


@pytest.mark.parametrize("family", EACH)
def test_any_value_inside_the_rope_settings(small: Small, family: str) -> None:
    """Regression: a text or 0 as `mscale` or `attention_factor` of YaRN ended in a traceback."""
    checkpoint = small(family)
    inside = ("text_config",) if is_nested(checkpoint.config) else ()
    for inner in ROPE_KEYS:
        for value in WRONG:
            rope = {**YARN, inner: value}
            answer(checkpoint, with_value(checkpoint.config, (*inside, "rope_scaling"), rope))


@pytest.mark.parametrize("family", ["qwen", "qwen2", "qwen35", "chatglm3", "chatglm4", "glm4moelite"])
def test_any_id_of_a_special_token(small: Small, family: str) -> None:
    checkpoint = small(family)
    keys = {path for path in all_paths(checkpoint.config) if path[-1].endswith(("token_id", "_name_or_path"))}
    for path in keys | {("eos_token_id",), ("bos_token_id",)}:
        for value in [*WRONG, [1, 10**9], [[0]]]:
            try:
                plan_files(replace(checkpoint, config=with_value(checkpoint.config, path, value)), {})
            except EdgeError as error:
                assert "\n" not in str(error)
