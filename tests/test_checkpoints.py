"""The checkpoints the other tests are built on. tests/oracle/test_checkpoints.py has transformers judge them."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import vocabulary
from tests.checkpoints import FAMILIES, build, read_json, weights
from tests.checkpoints.weights import OTHERS

SMALL: dict[str, Any] = {"hidden": 32, "ffn": 32, "moe_ffn": 32, "shared_ffn": 32, "head_dim": 8, "experts": 2}
SMALL |= {"linear_head_dim": 8, "q_rank": 32, "kv_rank": 32, "nope_dim": 8, "rope_dim": 8, "value_dim": 8}


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_have_the_ids_the_config_says(family: str, tmp_path: Path):
    config = read_json(build(tmp_path, family=family, **SMALL) / "config.json")
    config |= config.get("text_config", {})
    tokens = FAMILIES[family].tokens
    ids = {vocabulary.token_id(tokens, text) for text, _ in vocabulary.SPECIALS[tokens]}
    named = [value for key, value in config.items() if key.endswith("_token_id")]
    found = {one for value in named for one in (value if isinstance(value, list) else [value])}
    assert found <= ids or family == "chatglm3"  # whose ids are those of its SentencePiece model
    assert max(ids) < config.get("padded_vocab_size", config.get("vocab_size"))


def test_a_tokenizer_of_another_size(tmp_path: Path):
    """Each id follows: in config.json, in generation_config.json, and the size of the vocabulary."""
    written: list[tuple[Path, str]] = []

    def tokenizer(folder: Path, tokens: str) -> int:
        written.append((folder, tokens))
        return 1000

    build(tmp_path, family="chatglm4", tokenizer=tokenizer, vocab_gap=5, **SMALL)
    config = read_json(tmp_path / "config.json")
    assert written == [(tmp_path, "chatglm4")] and not (tmp_path / "tokenizer.model").exists()
    assert config["eos_token_id"] == [1000, 1007, 1009] and config["padded_vocab_size"] == 1000 + 14 + 5
    assert read_json(tmp_path / "generation_config.json")["pad_token_id"] == 1000


def test_each_tiktoken_rank_is_one_merge_of_two_lower_ones():
    ranks = {b64decode(text): int(rank) for text, rank in map(str.split, vocabulary.tiktoken().splitlines())}
    assert list(ranks.values()) == list(range(len(vocabulary.ORDINARY)))
    assert sorted(token for token, rank in ranks.items() if rank < 256) == [bytes([i]) for i in range(256)]
    assert [token for token, rank in ranks.items() if rank < 256] != [bytes([i]) for i in range(256)]
    for token, rank in ranks.items():
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        assert rank < 256 or any(ranks.get(a, rank) < rank and ranks.get(b, rank) < rank for a, b in halves)


@pytest.mark.parametrize(
    ("name", "middle", "spread"),
    [("model.norm.weight", 1, 0.144), ("lm_head.weight", 0, 0.036)]
    + [(f"x.{end}", middle, 0.036 * factor) for end, (factor, middle) in OTHERS.items()],
)
def test_weights_lie_where_they_should(name: str, middle: int, spread: float):
    values = weights(name, (4096,), "f32").data
    assert abs(values.mean() - middle) < spread / 8 and abs(values.std() / spread - 1) < 0.05


def test_zero_centred_norms_are_those_that_the_family_stores_so(tmp_path: Path):
    """Qwen3.5 stores its norms less one, but for the one inside linear attention."""
    build(tmp_path, family="qwen35", dtype="f32", **SMALL)
    raw = (tmp_path / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(raw[8:start])
    for name, entry in header.items():
        if name.endswith(("layernorm.weight", "_norm.weight", ".norm.weight", "hidden.weight", "embedding.weight")):
            begin, end = entry["data_offsets"]
            mean = np.frombuffer(raw[start + begin : start + end], "<f4").mean()
            assert abs(mean - name.endswith("linear_attn.norm.weight")) < 0.3, name
