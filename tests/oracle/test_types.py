"""Types and bytes of every tensor of every family at every level, with and without an imatrix, against llama.cpp.

``llama_model_quantize`` asks a model only for its hyperparameters, never for the shapes of its tensors: so these
models have the names, the number of dimensions and the row lengths that matter, and next to no rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from convert import gguf_file
from convert.errors import EdgeError
from convert.ggml import QType, quantize_rows, row_size
from convert.imatrix import Imatrix
from convert.levels import LEVELS, Level, ModelFacts, file_order, tensor_types
from tests.oracle.two_steps import QUIET

QUANTIZED = [level for level in LEVELS.values() if not level.is_float]

# Tensor -> its dimensions, outermost first: h and f are the rows of hidden and feed-forward width, e the experts.
WHOLE = {"token_embd.weight": "5 h", "output.weight": "5 h", "output_norm.weight": "h"}
NORMS = {"attn_norm.weight": "h", "ffn_norm.weight": "h", "attn_q_norm.weight": "h"}
SPLIT = {"attn_q.weight": "2 h", "attn_k.weight": "2 h", "attn_v.weight": "2 h", "attn_v.bias": "2"}
OUT = {"attn_output.weight": "2 h"}
FUSED = {"attn_qkv.weight": "2 h", "attn_qkv.bias": "2"}
LINEAR = {
    **FUSED,
    **{"attn_gate.weight": "2 h", "ssm_conv1d.weight": "6 4", "ssm_out.weight": "2 h", "ssm_norm.weight": "h"},
    **{"ssm_a": "2", "ssm_dt.bias": "2"},
}
LINEAR_NEXT = {**LINEAR, "ssm_ba.weight": "2 h"}
LINEAR_35 = {**LINEAR, "ssm_alpha.weight": "2 h", "ssm_beta.weight": "2 h"}
LATENT = {
    **{"attn_q_a.weight": "2 h", "attn_q_b.weight": "2 h", "attn_q_a_norm.weight": "h", "attn_kv_a_norm.weight": "h"},
    **{"attn_kv_a_mqa.weight": "2 h", "attn_k_b.weight": "3 2 f", "attn_v_b.weight": "3 2 h"},
}
LATENT_FUSED = {"attn_q.weight": "2 h", "attn_kv_a_mqa.weight": "2 h", "attn_kv_b.weight": "2 h"}
DENSE = {"ffn_gate.weight": "2 h", "ffn_up.weight": "2 h", "ffn_down.weight": "2 f"}
FUSED_DENSE = {"ffn_up.weight": "2 h", "ffn_down.weight": "2 f"}
EXPERTS = {
    **{"ffn_gate_inp.weight": "e h", "exp_probs_b.bias": "e"},
    **{"ffn_gate_exps.weight": "e 1 h", "ffn_up_exps.weight": "e 1 h", "ffn_down_exps.weight": "e 1 f"},
}
SHARED = {"ffn_gate_shexp.weight": "2 h", "ffn_up_shexp.weight": "2 h", "ffn_down_shexp.weight": "2 f"}
SHARED_GATE = {"ffn_gate_inp_shexp.weight": "1 h"}
NEXTN = {
    **{"nextn.eh_proj.weight": "2 h", "nextn.embed_tokens.weight": "5 h", "nextn.shared_head_head.weight": "5 h"},
    **{"nextn.enorm.weight": "h", "nextn.shared_head_norm.weight": "h"},
}


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """``mixer`` is the attention; ``linear`` the other kind, of three layers in four; ``leading`` the first layer's
    feed-forward part where it differs; ``nextn`` the layers of next-token prediction, counted in ``layers``."""

    arch: str
    mixer: Mapping[str, str]
    feed: Mapping[str, str]
    layers: int = 9
    heads: int = 4
    kv_heads: int = 1
    experts: int = 0
    hidden: int = 256
    ff: int = 256
    tied: bool = False
    linear: Mapping[str, str] = field(default_factory=dict)
    leading: Mapping[str, str] = field(default_factory=dict)
    nextn: int = 0

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(self.arch, self.layers, self.heads, self.kv_heads, self.experts)

    def tensors(self) -> Iterator[Tensor]:
        sizes = {"h": self.hidden, "f": self.ff, "e": self.experts}
        for name, dims in self.names():
            yield Tensor(name, tuple(sizes.get(word) or int(word) for word in dims.split()))

    def names(self) -> Iterator[tuple[str, str]]:
        yield from ((name, dims) for name, dims in WHOLE.items() if not (self.tied and name == "output.weight"))
        for i in range(self.layers):
            extra = i >= self.layers - self.nextn
            mixer = self.linear if self.linear and not extra and (i + 1) % 4 else self.mixer
            feed = self.leading if self.leading and i == 0 else self.feed
            parts = {**NORMS, **mixer, **feed, **(NEXTN if extra else {})}
            yield from ((f"blk.{i}.{name}", dims) for name, dims in parts.items())


ALL_MOE = {**EXPERTS, **SHARED, **SHARED_GATE}
GLM_MOE = {**EXPERTS, **SHARED}
MODELS = {
    "qwen": Model("qwen", FUSED | OUT, DENSE, kv_heads=4, ff=288),
    "qwen-80-layers": Model("qwen", FUSED, {}, layers=80, heads=8),
    "qwen2": Model("qwen2", SPLIT | OUT, DENSE, heads=8),
    "qwen2-tied-odd": Model("qwen2", SPLIT | OUT, DENSE, layers=5, kv_heads=2, hidden=288, ff=40, tied=True),
    "qwen2-40": Model("qwen2", SPLIT | OUT, DENSE, layers=3, hidden=40, ff=256),
    "qwen2-80-layers": Model("qwen2", SPLIT, {"ffn_down.weight": "2 f"}, layers=80, heads=8),
    "qwen3": Model("qwen3", SPLIT | OUT, DENSE, kv_heads=4, layers=33, tied=True),
    "qwen2moe": Model("qwen2moe", SPLIT | OUT, ALL_MOE, kv_heads=4, experts=16, ff=288, layers=17),
    "qwen2moe-8-experts": Model("qwen2moe", SPLIT | OUT, ALL_MOE, experts=8),
    "qwen3moe": Model("qwen3moe", SPLIT | OUT, EXPERTS, heads=8, experts=16, layers=17),
    "qwen3moe-8-experts": Model("qwen3moe", SPLIT | OUT, EXPERTS, kv_heads=4, experts=8, tied=True, hidden=288),
    "qwen3next": Model("qwen3next", SPLIT | OUT, ALL_MOE, experts=16, linear=LINEAR_NEXT, nextn=1),
    "qwen3next-8": Model("qwen3next", SPLIT | OUT, ALL_MOE, kv_heads=2, experts=8, linear=LINEAR_NEXT),
    "qwen35": Model("qwen35", SPLIT | OUT, DENSE, linear=LINEAR_35, layers=25, nextn=1, tied=True),
    "qwen35-no-mtp": Model("qwen35", SPLIT | OUT, DENSE, kv_heads=2, linear=LINEAR_35, ff=288),
    "qwen35moe": Model("qwen35moe", SPLIT | OUT, ALL_MOE, heads=8, experts=16, linear=LINEAR_35, nextn=1),
    "chatglm-fused": Model("chatglm", FUSED | OUT, FUSED_DENSE, heads=16, ff=288),
    "chatglm-split": Model("chatglm", SPLIT | OUT, FUSED_DENSE, kv_heads=2, layers=16, tied=True),
    "glm4": Model("glm4", SPLIT | OUT, FUSED_DENSE, heads=8, ff=288, layers=16),
    "glm4moe": Model("glm4moe", SPLIT | OUT, GLM_MOE, heads=12, experts=16, ff=288, leading=DENSE, nextn=1),
    "glm4moe-8": Model("glm4moe", SPLIT | OUT, GLM_MOE, experts=8, leading=DENSE, layers=17),
    "deepseek2": Model("deepseek2", LATENT | OUT, GLM_MOE, experts=16, ff=192, leading=DENSE, nextn=1),
    "deepseek2-kv-b": Model("deepseek2", LATENT_FUSED | OUT, GLM_MOE, experts=8, leading=DENSE),
}


def write(model: Model, path: Path) -> dict[str, np.ndarray]:
    """The model as an F32 file; returns its weights."""
    writer = gguf.GGUFWriter(path, model.arch)
    whole = {
        **{"block_count": model.layers, "context_length": 64, "embedding_length": 256, "feed_forward_length": 256},
        **{"attention.head_count": model.heads, "attention.head_count_kv": model.kv_heads},
        **{"nextn_predict_layers": model.nextn, "expert_count": model.experts},
        **{"expert_used_count": min(model.experts, 2), "expert_feed_forward_length": 256, "expert_shared_count": 1},
        **{"leading_dense_block_count": len(model.leading) and 1, "attention.q_lora_rank": 8},
        **{"attention.kv_lora_rank": 8, "ssm.conv_kernel": 4, "ssm.inner_size": 8, "ssm.state_size": 4},
        **{"ssm.time_step_rank": 2, "ssm.group_count": 1},
    }
    for key, value in whole.items():
        writer.add_uint32(f"{model.arch}.{key}", value)
    writer.add_float32(f"{model.arch}.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_array(f"{model.arch}.rope.dimension_sections", [1, 1, 1, 0])
    rng = np.random.default_rng(1)
    weights = {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in model.tensors()}
    for name, data in weights.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def importance(model: Model) -> Imatrix:
    """Of all layers but one; the embedding's has the wrong size, which llama.cpp lets pass."""
    rng = np.random.default_rng(2)
    weights = {}
    for name, shape in ((tensor.name, tensor.shape) for tensor in model.tensors() if ".1." not in tensor.name):
        size = shape[-1] * (shape[0] if len(shape) == 3 else 1)
        weights[name] = rng.random(size + 2 * (name == "token_embd.weight"), np.float32) * 9
    return Imatrix("i.gguf", weights, (), 0)


def quantize(source: Path, out: Path, level: Level, imatrix: Imatrix | None) -> int:
    """llama.cpp's way; not 0 where it refuses."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = int(level.ftype), 1
    if imatrix:
        entries = (llama_cpp.llama_model_imatrix_data * (len(imatrix.weights) + 1))()
        for entry, (name, values) in zip(entries, imatrix.weights.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = entries
    return llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(params))


def encoded(weights: np.ndarray, qtype: QType, importance: np.ndarray | None) -> bytes:
    """Ours: expert by expert."""
    if qtype == QType.F32:
        return weights.tobytes()
    matrices = weights.reshape(-1, *weights.shape[-2:])
    parts = []
    for i, matrix in enumerate(matrices):
        out = np.empty(matrix.shape[0] * row_size(qtype, matrix.shape[1]), np.uint8)
        quantize_rows(matrix, qtype, out, None if importance is None else importance[i])
        parts.append(out.tobytes())
    return b"".join(parts)


@pytest.mark.parametrize("with_imatrix", [False, True], ids=["plain", "imatrix"])
@pytest.mark.parametrize("name", MODELS)
def test_every_level(name: str, with_imatrix: bool, tmp_path: Path):
    model, source = MODELS[name], tmp_path / "source.gguf"
    weights = write(model, source)
    imatrix = importance(model) if with_imatrix else None
    for level in QUANTIZED:
        types = tensor_types(level, model.tensors(), model.facts, with_imatrix)
        assert quantize(source, tmp_path / "out.gguf", level, imatrix) == 0, level.name
        theirs = gguf_file.read(tmp_path / "out.gguf")
        assert {t.name: t.type for t in theirs.tensors} == {name: t.name for name, t in types.items()}, level.name
        assert [t.name for t in theirs.tensors] == file_order(level, types), level.name
        raw = (tmp_path / "out.gguf").read_bytes()
        for tensor in theirs.tensors:
            data, at = weights[tensor.name], theirs.data_offset + tensor.offset
            quantized = types[tensor.name] != QType.F32
            measured = imatrix.weights_for(tensor.name, data.shape) if imatrix and quantized else None
            ours = encoded(data, types[tensor.name], measured)
            assert ours == raw[at : at + tensor.nbytes], f"{level.name} {tensor.name}"


def test_every_family_is_here():
    archs = {"qwen", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "qwen3next", "qwen35", "qwen35moe"}
    assert {model.arch for model in MODELS.values()} == archs | {"chatglm", "glm4", "glm4moe", "deepseek2"}


def test_both_refuse_an_imatrix_of_the_wrong_size(tmp_path: Path):
    model = MODELS["qwen3moe"]
    write(model, tmp_path / "source.gguf")
    whole = importance(model)
    name, shape = next((t.name, t.shape) for t in model.tensors() if len(t.shape) == 3)
    wrong = Imatrix("i.gguf", {**whole.weights, name: whole.weights[name][:256]}, (), 0)
    assert quantize(tmp_path / "source.gguf", tmp_path / "out.gguf", LEVELS["Q4_K_M"], wrong) != 0
    with pytest.raises(EdgeError, match="made for another model"):
        wrong.weights_for(name, shape)


def test_both_refuse_weights_that_overflow(tmp_path: Path):
    model = Model("qwen2", SPLIT, DENSE, layers=1)
    rows = np.full((2, 256), 1e9, np.float32)
    path = tmp_path / "source.gguf"
    write(model, path)
    found = next(t for t in gguf_file.read(path).tensors if t.name == "blk.0.attn_q.weight")
    with path.open("r+b") as file:
        file.seek(gguf_file.read(path).data_offset + found.offset)
        file.write(rows.tobytes())
    assert quantize(path, tmp_path / "out.gguf", LEVELS["Q4_K_M"], None) != 0
    with pytest.raises(EdgeError, match="too large for Q4_K"):
        encoded(rows, QType.Q4_K, None)
