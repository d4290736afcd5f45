"""The rules for tensor types, against figures of known files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

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
    ],
)
def test_rows_that_do_not_fit_fall_back(wanted: QType, row: int, got: QType) -> None:
    assert fitting_type(wanted, row) == got


def test_more_bits_of_24_layers() -> None:
    facts = ModelFacts("qwen2", 24, 14, 2)
    chosen = [i for i in range(24) if more_bits(Place(i, 24, facts, has_imatrix=False))]
    assert chosen == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]


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
