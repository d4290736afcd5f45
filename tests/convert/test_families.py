"""plan() of every family: all weights are used once, and what does not fit is named before a weight is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convert.architecture import ModelPlan, is_ignored, plan
from convert.architectures import FAMILIES as ARCHITECTURES
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint, StoredTensor
from convert.errors import CheckpointError
from convert.pipeline import convert
from edge.cli.main import cli
from tests.convert.small import CASES, Small, build_small


def plan_of(checkpoint: Checkpoint, tensors: dict[str, StoredTensor] | None = None) -> ModelPlan:
    return plan(checkpoint if tensors is None else replace(checkpoint, tensors=tensors), REGISTRY)


def refusal(checkpoint: Checkpoint, tensors: dict[str, StoredTensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        plan_of(checkpoint, tensors)
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_every_architecture_has_a_case(small: Small) -> None:
    planned = {plan_of(small(name)).architecture.name for name in CASES}
    assert planned == {architecture.name for architecture in ARCHITECTURES}


@pytest.mark.parametrize("name", CASES)
def test_every_weight_is_used_once(small: Small, name: str) -> None:
    """Rows that two outputs share, or that none has, would give a model that loads and is another one."""
    checkpoint = small(name)
    model = plan_of(checkpoint)
    used = {tensor.name: np.zeros(tensor.rows, int) for tensor in checkpoint.tensors.values()}
    for tensor in model.tensors:
        for span in tensor.spans:
            used[span.source.name][span.first : span.first + span.rows] += 1
            assert span.first >= 0 and span.rows > 0 and span.first + span.rows <= span.source.rows
        assert tensor.elements == sum(span.rows * span.source.row_elements for span in tensor.spans), tensor.name
        assert len(tensor.shape) <= 3 and min(tensor.shape) > 0
    left_out = {tensor.name for tensor in model.left_out}
    assert left_out == {name for name in checkpoint.tensors if "visual" in name}
    unused = {name for name, rows in used.items() if not rows.any()}
    assert unused == left_out | {name for name in checkpoint.tensors if is_ignored(name)}
    assert all((rows == 1).all() for name, rows in used.items() if name not in unused)
    assert len({tensor.name for tensor in model.tensors}) == len(model.tensors)


@pytest.mark.parametrize("name", CASES)
def test_rows_of_an_output_are_rows_of_its_sources(small: Small, name: str) -> None:
    """Quantizers need whole rows: only a convolution loses a dimension, only a transposed part has other rows."""
    for tensor in plan_of(small(name)).tensors:
        for span in tensor.spans:
            assert tensor.shape[-2 if tensor.transposed else -1] == span.source.row_elements
            assert not tensor.transposed or span.rows == tensor.shape[-1]


OPTIONAL = ("shared_head.head.weight", "shared_head.norm.weight", "embed_tokens.weight", "mtp.norm.weight")


def is_optional(checkpoint: Checkpoint, name: str) -> bool:
    """Of a layer that predicts further tokens, and the head that is stored beside tied embeddings."""
    if name == "lm_head.weight":
        return bool(checkpoint.config.get("tie_word_embeddings"))
    return name.endswith(OPTIONAL) and name.startswith(("mtp.", "model.layers."))


@pytest.mark.parametrize("name", CASES)
def test_every_missing_tensor_is_named(small: Small, name: str) -> None:
    checkpoint = small(name)
    for gone in checkpoint.tensors:
        tensors = {key: tensor for key, tensor in checkpoint.tensors.items() if key != gone}
        if gone in {tensor.name for tensor in plan_of(checkpoint).left_out} or is_ignored(gone):
            plan_of(checkpoint, tensors)
        elif is_optional(checkpoint, gone):
            assert len(plan_of(checkpoint, tensors).tensors) == len(plan_of(checkpoint).tensors) - 1
        else:
            message = refusal(checkpoint, tensors)
            # Without their mark, the tensors of a prediction layer belong to no layer; experts are known by gate_up.
            if gone.endswith((".eh_proj.weight", "mtp.fc.weight")):
                assert "has no place" in message
            elif gone.endswith("experts.gate_up_proj"):
                assert ".mlp.experts.0." in message and "is missing" in message
            else:
                assert message.endswith(f"{ending(gone)} is missing")


def ending(name: str) -> str:
    """The part of a name that stays when it is brought into the words of the family's rules."""
    known = {"mtp.pre_fc_norm_embedding": "enorm", "mtp.pre_fc_norm_hidden": "hnorm"}
    name = name.replace("model.language_model.", "model.")
    stem, _, kind = name.rpartition(".")
    return f"{known[stem]}.{kind}" if stem in known else name.rpartition("layers.")[2].partition(".")[2] or name


@pytest.mark.parametrize("name", CASES)
def test_every_wrong_shape_is_named(small: Small, name: str) -> None:
    """Also where all the elements are there."""
    checkpoint = small(name)
    skipped = {tensor.name for tensor in plan_of(checkpoint).left_out}
    for tensor in checkpoint.tensors.values():
        if tensor.name in skipped or is_ignored(tensor.name):
            continue
        others = {(1, *tensor.shape), tensor.shape[::-1], (math.prod(tensor.shape),)}
        for shape in others - {tensor.shape}:
            message = refusal(checkpoint, checkpoint.tensors | {tensor.name: replace(tensor, shape=shape)})
            assert message.startswith(f"tensor {tensor.name} has shape {list(shape)}, but config.json implies ")


@pytest.mark.parametrize("name", CASES)
def test_every_left_over_tensor_is_named(small: Small, name: str) -> None:
    checkpoint = small(name)
    template = next(iter(checkpoint.tensors.values()))
    known = [name for name in checkpoint.tensors if "visual." not in name][::7]
    for key in [*(f"{name}.more" for name in known), "model.layers.77.mlp.gate.weight", "lora_A.weight", "score.bias"]:
        message = refusal(checkpoint, checkpoint.tensors | {key: replace(template, name=key)})
        assert message.startswith(f"tensor {key} has no place in ")


# What is special to a family: case, end of a tensor's name
SPECIAL = [
    ("qwen", "h.0.attn.c_attn.bias"),
    ("qwen2moe-fused", "layers.1.mlp.experts.down_proj"),
    ("qwen2moe", "layers.1.mlp.experts.1.up_proj.weight"),
    ("qwen2moe", "layers.2.mlp.shared_expert_gate.weight"),
    ("qwen3moe", "layers.0.mlp.gate.weight"),
    ("qwen3next", "layers.0.linear_attn.in_proj_qkvz.weight"),
    ("qwen3next", "layers.1.linear_attn.A_log"),
    ("qwen35", "layers.0.linear_attn.conv1d.weight"),
    ("qwen35moe", "layers.0.linear_attn.dt_bias"),
    ("chatglm4", "layers.0.mlp.dense_h_to_4h.weight"),
    ("glm4", "layers.2.post_mlp_layernorm.weight"),
    ("glm4moe", "layers.1.mlp.gate.e_score_correction_bias"),
    ("glm4moe-qk-norm", "layers.0.self_attn.q_norm.weight"),
    ("glm4moe", "layers.3.enorm.weight"),
    ("glm4moelite", "layers.0.self_attn.kv_b_proj.weight"),
    ("glm4moelite", "layers.2.self_attn.kv_a_proj_with_mqa.weight"),
]


@pytest.mark.parametrize(("name", "end"), SPECIAL, ids=lambda value: value)
def test_what_is_special_to_a_family_is_missed_with_its_layer(small: Small, name: str, end: str) -> None:
    checkpoint = small(name)
    (gone,) = [key for key in checkpoint.tensors if key.endswith(end)]
    tensors = {key: tensor for key, tensor in checkpoint.tensors.items() if key != gone}
    assert refusal(checkpoint, tensors).endswith(f"{end} is missing")


def test_experts_beyond_the_config_have_no_place(small: Small) -> None:
    checkpoint = small("qwen3moe")
    first = checkpoint.tensors["model.layers.0.mlp.experts.0.up_proj.weight"]
    extra = replace(first, name="model.layers.0.mlp.experts.2.up_proj.weight")
    assert f"tensor {extra.name} has no place" in refusal(checkpoint, checkpoint.tensors | {extra.name: extra})


def test_experts_both_fused_and_each_are_one_too_many(small: Small) -> None:
    each, fused = small("qwen3moe"), small("qwen3moe-fused")
    assert "mlp.experts.0.down_proj.weight (and 17 more) has no place" in refusal(each, fused.tensors | each.tensors)


def test_one_tensor_under_two_names(small: Small) -> None:
    """Qwen3.5's text part is stored with and without a prefix; both at once would hide one of them."""
    checkpoint = small("qwen35")
    one = checkpoint.tensors["model.language_model.norm.weight"]
    both = checkpoint.tensors | {"model.norm.weight": replace(one, name="model.norm.weight")}
    assert "the same one under two names" in refusal(checkpoint, both)


def test_nothing_is_written_for_a_checkpoint_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_small(tmp_path / "checkpoint", "glm4moelite", config={"kv_lora_rank": 48})

    def unreadable(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(Checkpoint, "read_into", unreadable)
    with pytest.raises(CheckpointError, match=r"kv_.* has shape"):
        convert(folder, {"F16": tmp_path / "x.gguf"})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["qwen35", "qwen35moe"])
def test_the_vision_part_is_left_out_by_name(small: Small, name: str) -> None:
    left_out = [tensor.name for tensor in plan_of(small(name)).left_out]
    assert left_out and left_out == [tensor for tensor in small(name).tensors if tensor.startswith("model.visual.")]
    assert not plan_of(small(f"{name}-text")).left_out


@pytest.mark.parametrize("options", [["--no-check"], ["--dry-run"]], ids=" ".join)
def test_the_command_says_what_is_left_out(tmp_path: Path, options: list[str]) -> None:
    folder = build_small(tmp_path / "checkpoint", "qwen35")
    arguments = ["convert", str(folder), str(tmp_path / "x.gguf"), "-l", "F16", *options]
    said = CliRunner().invoke(cli, arguments).stdout
    assert "left out, for text only: 8 tensors of the vision part (model.visual." in said
    report = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert len(report["left_out"]) == 8 and all(name.startswith("model.visual.") for name in report["left_out"])
    plain = build_small(tmp_path / "text", "qwen2")
    assert "left out" not in CliRunner().invoke(cli, ["convert", str(plain), *arguments[2:]]).stdout
