"""The rules for tensor types, against figures of known files."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pytest
from gguf.constants import GGML_QUANT_SIZES

from convert.errors import EdgeError
from convert.ggml import QType
from convert.levels import ModelFacts, Place, file_order, fitting_type, more_bits, parse_level, tensor_types


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]


def qwen2(layers: int, hidden: int, ff: int, kv: int, *, tied: bool, vocab: int = 151936) -> list[Tensor]:
    tensors = [Tensor("token_embd.weight", (vocab, hidden)), Tensor("output_norm.weight", (hidden,))]
    tensors += [] if tied else [Tensor("output.weight", (vocab, hidden))]
    for i in range(layers):
        tensors += [
            Tensor(f"blk.{i}.attn_norm.weight", (hidden,)),
            Tensor(f"blk.{i}.ffn_norm.weight", (hidden,)),
            *(Tensor(f"blk.{i}.attn_{x}.bias", (kv if x != "q" else hidden,)) for x in "qkv"),
            Tensor(f"blk.{i}.attn_q.weight", (hidden, hidden)),
            Tensor(f"blk.{i}.attn_k.weight", (kv, hidden)),
            Tensor(f"blk.{i}.attn_v.weight", (kv, hidden)),
            Tensor(f"blk.{i}.attn_output.weight", (hidden, hidden)),
            Tensor(f"blk.{i}.ffn_gate.weight", (ff, hidden)),
            Tensor(f"blk.{i}.ffn_up.weight", (ff, hidden)),
            Tensor(f"blk.{i}.ffn_down.weight", (hidden, ff)),
        ]
    return tensors


# Bits per weight of Llama 3.1 8B, from the table in llama.cpp's tools/quantize/README.md. The rules of this model
# are those of a qwen2 of its shape: 32 layers, four heads to a key-value head, an output matrix of its own.
PUBLISHED = {
    "F16": 16.0005,
    "Q8_0": 8.5008,
    "Q6_K": 6.5633,
    "Q5_K_M": 5.7036,
    "Q5_K_S": 5.5704,
    "Q4_K_M": 4.8944,
    "Q4_K_S": 4.6672,
    "IQ4_NL": 4.6818,
    "IQ4_XS": 4.4597,
    "Q3_K_M": 3.9960,
    "Q2_K": 3.1593,
}


@pytest.mark.parametrize(("level", "published"), PUBLISHED.items())
def test_llama_31_8b_has_the_published_bits_per_weight(level: str, published: float) -> None:
    tensors = [t for t in qwen2(32, 4096, 14336, 1024, tied=False, vocab=128256) if not t.name.endswith(".bias")]
    tensors.append(Tensor("rope_freqs.weight", (64,)))
    types = tensor_types(parse_level(level), tensors, ModelFacts("qwen2", 32, 32, 8))
    bits = weights = 0
    for tensor in tensors:
        block, nbytes = GGML_QUANT_SIZES[types[tensor.name]]
        weights += math.prod(tensor.shape)
        bits += 8 * math.prod(tensor.shape) * nbytes // block
    assert round(bits / weights, 4) == published


def test_qwen25_05b_q4_k_m_has_the_published_types() -> None:
    """The type counts of the published Qwen2.5-0.5B Q4_K_M file, whose rows of 896 fit no K-quant."""
    tensors = qwen2(24, 896, 4864, 128, tied=True)
    types = tensor_types(parse_level("q4_k_m"), tensors, ModelFacts("qwen2", 24, 14, 2))
    assert Counter(types.values()) == {QType.F32: 121, QType.Q5_0: 132, QType.Q8_0: 13, QType.Q4_K: 12, QType.Q6_K: 12}


def test_qwen25_72b_attn_v_gets_more_bits() -> None:
    types = tensor_types(
        parse_level("Q4_K_M"), qwen2(80, 8192, 29568, 1024, tied=False, vocab=152064), ModelFacts("qwen2", 80, 64, 8)
    )
    values = Counter(t for name, t in types.items() if "attn_v.weight" in name)
    assert set(values) == {QType.Q5_K, QType.Q6_K}
    assert Counter(t for name, t in types.items() if "ffn_down" in name).keys() == {QType.Q5_0, QType.Q8_0}


def test_q4_0_keeps_the_output_fine() -> None:
    tied = tensor_types(parse_level("Q4_0"), qwen2(2, 256, 512, 64, tied=True), ModelFacts("qwen2", 2, 4, 1))
    assert tied["token_embd.weight"] == QType.Q6_K
    untied = tensor_types(parse_level("Q4_0"), qwen2(2, 256, 512, 64, tied=False), ModelFacts("qwen2", 2, 4, 1))
    assert (untied["token_embd.weight"], untied["output.weight"]) == (QType.Q4_0, QType.Q6_K)


def test_q2_k_depends_on_how_many_heads_share() -> None:
    for kv_heads, expected in ((1, QType.Q4_K), (2, QType.Q3_K)):
        facts = ModelFacts("qwen2", 4, 4, kv_heads)
        types = tensor_types(parse_level("Q2_K"), qwen2(4, 256, 512, 64, tied=True), facts)
        assert types["blk.0.attn_v.weight"] == expected
        assert types["blk.0.attn_output.weight"] == types["blk.0.ffn_down.weight"] == QType.Q3_K


@pytest.mark.parametrize(
    ("wanted", "row", "got"),
    [
        (QType.Q4_K, 512, QType.Q4_K),
        (QType.Q4_K, 896, QType.Q5_0),
        (QType.Q6_K, 13696, QType.Q8_0),
        (QType.Q5_K, 1408, QType.Q5_1),
        (QType.Q2_K, 96, QType.Q4_0),
        (QType.Q4_0, 40, QType.F16),
        (QType.Q4_K, 40, QType.F16),
        (QType.Q8_0, 96, QType.Q8_0),
        (QType.IQ4_XS, 96, QType.IQ4_NL),
        (QType.Q3_K, 96, QType.Q4_0),
        (QType.IQ4_NL, 40, QType.F16),
    ],
)
def test_rows_that_do_not_fit_fall_back(wanted: QType, row: int, got: QType) -> None:
    assert fitting_type(wanted, row) == got


def test_more_bits_of_24_layers() -> None:
    facts = ModelFacts("qwen2", 24, 14, 2)
    chosen = [i for i in range(24) if more_bits(Place(i, 24, facts, has_imatrix=False))]
    assert chosen == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]


def moe(experts: int, layers: int = 16) -> list[Tensor]:
    tensors = [Tensor("token_embd.weight", (512, 256)), Tensor("output.weight", (512, 256))]
    for i in range(layers):
        tensors += [
            *(Tensor(f"blk.{i}.attn_{x}.weight", (256, 256)) for x in ("q", "k", "v", "output")),
            Tensor(f"blk.{i}.ffn_gate_inp.weight", (experts, 256)),
            Tensor(f"blk.{i}.ffn_gate_inp_shexp.weight", (1, 256)),
            Tensor(f"blk.{i}.ffn_down_exps.weight", (experts, 256, 256)),
            Tensor(f"blk.{i}.ffn_down_shexp.weight", (256, 256)),
        ]
    return tensors


def test_eight_experts_get_fine_attention() -> None:
    types = tensor_types(parse_level("Q4_K_S"), moe(8), ModelFacts("qwen3moe", 16, 4, 4, experts=8))
    of = {role: {t for name, t in types.items() if f"attn_{role}." in name} for role in ("q", "k", "v", "output")}
    assert of == {"q": {QType.Q4_K}, "k": {QType.Q8_0}, "v": {QType.Q8_0}, "output": {QType.Q5_K}}


def test_layers_of_experts_are_counted_by_name() -> None:
    """With two ffn_down in a layer, a running count would spend the finer bits on the first layer alone."""
    types = tensor_types(parse_level("Q4_K_S"), moe(16), ModelFacts("qwen3moe", 16, 4, 4, experts=16))
    fine = [name for name, qtype in types.items() if "ffn_down" in name and qtype == QType.Q5_K]
    assert fine == [f"blk.{i}.ffn_down_{x}.weight" for i in range(2) for x in ("exps", "shexp")]


def test_an_imatrix_changes_the_first_eighth_of_ffn_down() -> None:
    facts, found = ModelFacts("qwen2", 8, 4, 4), {}
    for name in ("Q5_0", "Q4_0", "IQ4_XS", "Q4_K_M"):
        for has_imatrix in (False, True):
            types = tensor_types(parse_level(name), qwen2(8, 256, 512, 64, tied=True), facts, has_imatrix)
            found[name, has_imatrix] = types["blk.0.ffn_down.weight"].name
    assert found == {
        ("Q5_0", False): "Q5_0",
        ("Q5_0", True): "Q5_1",
        ("Q4_0", False): "Q4_0",
        ("Q4_0", True): "Q4_1",
        ("IQ4_XS", False): "Q5_K",
        ("IQ4_XS", True): "IQ4_XS",
        ("Q4_K_M", False): "Q6_K",
        ("Q4_K_M", True): "Q6_K",
    }


@pytest.mark.parametrize(
    ("name", "shape", "float_level", "q8_0"),
    [
        ("blk.0.attn_q.weight", (4, 64), QType.BF16, QType.Q8_0),
        ("blk.0.ffn_up_exps.weight", (1, 4, 64), QType.BF16, QType.Q8_0),
        ("blk.0.ssm_alpha.weight", (2, 64), QType.BF16, QType.Q8_0),
        ("blk.0.ssm_alpha.weight", (1, 64), QType.BF16, QType.F32),
        ("blk.0.ffn_gate_inp.weight", (4, 64), QType.F32, QType.F32),
        ("blk.0.ffn_gate_inp_shexp.weight", (1, 64), QType.F32, QType.F32),
        ("blk.0.ssm_conv1d.weight", (64, 4), QType.F32, QType.F32),
        ("blk.0.ssm_a", (4,), QType.F32, QType.F32),
        ("blk.0.attn_q.bias", (64,), QType.F32, QType.F32),
        ("blk.0.attn_q_norm.weight", (4, 64), QType.F32, QType.F32),
        ("blk.0.nextn.enorm.weight", (64,), QType.F32, QType.F32),
    ],
)
def test_what_is_never_rounded(name: str, shape: tuple[int, ...], float_level: QType, q8_0: QType) -> None:
    facts = ModelFacts("qwen35moe", 1, 4, 4)
    for level, expected in (("BF16", float_level), ("Q8_0", q8_0)):
        assert tensor_types(parse_level(level), [Tensor(name, shape)], facts) == {name: expected}


def test_file_order_is_by_layer_number_not_by_text() -> None:
    names = ["blk.10.attn_q.weight", "blk.2.attn_q.weight", "token_embd.weight", "output.weight", "blk.2.attn_k.weight"]
    assert file_order(parse_level("Q8_0"), names) == [
        "output.weight",
        "token_embd.weight",
        "blk.2.attn_k.weight",
        "blk.2.attn_q.weight",
        "blk.10.attn_q.weight",
    ]
    assert file_order(parse_level("BF16"), names) == names


def test_unknown_level_lists_those_there_are() -> None:
    with pytest.raises(EdgeError, match=r"Q5_9.*one of F32, .*Q4_K_M"):
        parse_level("Q5_9")
