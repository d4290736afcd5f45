"""plan(): a config that does not fit the tensors, or that llama.cpp would compute differently, is refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from convert.architecture import ModelPlan, plan
from convert.architectures import REGISTRY
from convert.checkpoint import open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from tests.checkpoints import build, edit_json


def plan_of(folder: Path) -> ModelPlan:
    with open_checkpoint(folder) as checkpoint:
        return plan(checkpoint, REGISTRY)


def metadata_of(folder: Path) -> dict[str, Any]:
    model = plan_of(folder)
    return {kv.key: kv.value for kv in (*model.metadata, *model.family_metadata)}


@pytest.fixture(params=["qwen2", "glm4"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return build(tmp_path / request.param, family=request.param, layers=2)


REFUSED_BY_BOTH: dict[str, Any] = {
    "hidden_act": "gelu",
    "is_causal": False,
    "layer_types": ["full_attention", "sliding_attention"],
    "auto_map": {"AutoModelForCausalLM": "modeling.Model"},
    "num_experts": 8,
    "rope_interleave": True,
    "final_logit_softcapping": 30.0,
    "logits_scaling": 8.0,
    "per_layer_config": {"0": {"num_attention_heads": 2}},
    "tie_word_embeddings": "yes",
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
}


@pytest.mark.parametrize("key", REFUSED_BY_BOTH)
def test_a_value_llama_cpp_does_not_honour_is_named(folder: Path, key: str) -> None:
    """Each of these gave a file that loads and answers, and is a different model."""
    edit_json(folder / "config.json", **{key: REFUSED_BY_BOTH[key]})
    with pytest.raises(UnsupportedError, match="rope_type" if key == "rope_scaling" else key):
        plan_of(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 1},
        {"partial_rotary_factor": 0.5},
        {"head_dim": 32},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_qwen2_refuses(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = build(tmp_path, layers=2)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(UnsupportedError, match=next(iter(changes))):
        plan_of(folder)


def test_a_sliding_window_that_no_layer_uses_is_accepted(tmp_path: Path) -> None:
    """Qwen2.5 ships use_sliding_window with max_window_layers = num_hidden_layers: no layer slides."""
    folder = build(tmp_path, layers=2)
    edit_json(folder / "config.json", use_sliding_window=True, sliding_window=128, max_window_layers=2)
    assert plan_of(folder).facts.layers == 2


@pytest.mark.parametrize(
    "changes", [{"sliding_window": 128}, {"partial_rotary_factor": 0.02}, {"partial_rotary_factor": 1.5}], ids=str
)
def test_glm4_refuses(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = build(tmp_path, family="glm4", layers=2)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(UnsupportedError, match=next(iter(changes))):
        plan_of(folder)


def test_glm4_bias_must_be_what_the_config_says(tmp_path: Path) -> None:
    """With attention_bias false transformers ignores the biases; llama.cpp would add them."""
    folder = build(tmp_path, family="glm4", layers=1)
    edit_json(folder / "config.json", attention_bias=False)
    with pytest.raises(CheckpointError, match=r"q_proj\.bias|k_proj\.bias|v_proj\.bias"):
        plan_of(folder)


@pytest.mark.parametrize(
    ("yarn", "named"),
    [
        ({"beta_fast": 16}, "beta_fast"),
        ({"beta_slow": 2}, "beta_slow"),
        ({"truncate": False}, "truncate"),
        ({"attention_factor": 1.0}, "attention factor"),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, "attention factor"),
    ],
    ids=lambda value: str(value),
)
def test_yarn_settings_llama_cpp_ignores_are_refused(tmp_path: Path, yarn: dict[str, Any], named: str) -> None:
    folder = build(tmp_path, layers=1, scaling={"type": "yarn", "factor": 4.0, **yarn})
    with pytest.raises(UnsupportedError, match=named):
        plan_of(folder)


def test_yarn_with_the_usual_attention_factor_is_accepted(tmp_path: Path) -> None:
    usual = 0.1 * math.log(4.0) + 1.0
    folder = build(
        tmp_path,
        layers=1,
        scaling={
            "type": "yarn",
            "factor": 4.0,
            "attention_factor": usual,
            "original_max_position_embeddings": 1024,
        },
    )
    found = metadata_of(folder)
    assert found["qwen2.rope.scaling.type"] == "yarn"
    assert found["qwen2.rope.scaling.original_context_length"] == 1024


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
@pytest.mark.parametrize("value", [None, 0, -4, 2**40, 1.5, "256", True])
def test_sizes_that_are_no_sizes(tmp_path: Path, key: str, value: Any) -> None:
    folder = build(tmp_path, layers=1)
    edit_json(folder / "config.json", **{key: value})
    with pytest.raises(EdgeError, match=key):
        plan_of(folder)


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_key_value_heads", "vocab_size"])
def test_config_that_disagrees_with_the_shapes(folder: Path, key: str) -> None:
    edit_json(folder / "config.json", **{key: 4096 if key != "num_key_value_heads" else 4})
    with pytest.raises(CheckpointError, match=r"has shape .* but config\.json implies"):
        plan_of(folder)


def test_missing_and_left_over_tensors_are_named(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\..* is missing"):
        plan_of(folder)
    edit_json(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\..* has no place"):
        plan_of(folder)


def test_untied_model_without_its_head(folder: Path) -> None:
    """llama.cpp would tie it silently; transformers would start from random weights."""
    edit_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is missing"):
        plan_of(folder)


def test_a_head_stored_beside_tied_embeddings_is_kept(tmp_path: Path) -> None:
    folder = build(tmp_path, layers=1, tied=True, lm_head="other")
    assert "output.weight" in {tensor.name for tensor in plan_of(folder).tensors}


def test_unknown_architecture_lists_the_known(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["LlamaForCausalLM"])
    with pytest.raises(UnsupportedError, match=r"LlamaForCausalLM.*supported: .*Glm4ForCausalLM, .*Qwen2ForCausalLM"):
        plan_of(folder)
    edit_json(folder / "config.json", architectures=[])
    with pytest.raises(CheckpointError, match="does not name its architecture"):
        plan_of(folder)


def test_both_generations_of_rope_settings_give_the_same(tmp_path: Path) -> None:
    old = build(tmp_path / "old", family="glm4", layers=1, rope="old")
    new = build(tmp_path / "new", family="glm4", layers=1, rope="new")
    assert metadata_of(old) == metadata_of(new)


def test_defaults_of_transformers_fill_what_the_config_leaves_out(tmp_path: Path) -> None:
    folder = build(tmp_path, layers=1, without=["rope_theta", "rms_norm_eps", "max_position_embeddings", "hidden_act"])
    found = metadata_of(folder)
    assert found["qwen2.rope.freq_base"] == 10000.0
    assert found["qwen2.attention.layer_norm_rms_epsilon"] == 1e-6
    assert found["qwen2.context_length"] == 32768
