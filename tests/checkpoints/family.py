"""What a family's checkpoints are made of: sizes, and data that says what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """Sizes and switches of one small model. Each family reads those it has."""

    vocab: int
    tied: bool = True
    layers: int = 4
    hidden: int = 256
    ffn: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None  # hidden / heads; some families always write it, the others when it is given
    attention_bias: bool = True
    qk_norm: bool = True

    # Not 8 experts: llama.cpp's quantizer takes such a model for Mixtral and treats its attention in another way.
    experts: int = 6
    experts_used: int = 2
    moe_ffn: int = 256
    shared_ffn: int = 256
    dense_layers: int = 1
    nextn: int = 1  # multi-token prediction layers

    # Linear attention: llama.cpp takes key heads and value heads to be equally wide.
    interval: int = 4  # every fourth layer has full attention
    linear_key_heads: int = 2
    linear_value_heads: int = 4
    linear_head_dim: int = 64
    conv_kernel: int = 4

    # Multi-head latent attention
    q_rank: int = 256
    kv_rank: int = 256
    nope_dim: int = 96  # as in the published model, rows of the key matrix are no multiple of 256
    rope_dim: int = 32
    value_dim: int = 128

    @property
    def head(self) -> int:
        return self.head_dim or self.hidden // self.heads

    @property
    def both_ffn(self) -> int:
        """What Qwen-7B calls the size of its feed-forward network: gate and up together."""
        return 2 * self.ffn

    @property
    def linear_key(self) -> int:
        return self.linear_key_heads * self.linear_head_dim

    @property
    def linear_value(self) -> int:
        return self.linear_value_heads * self.linear_head_dim

    @property
    def shared_experts(self) -> int:
        """GLM counts them: together they are as wide as so many routed ones."""
        return self.shared_ffn // self.moe_ffn

    @property
    def layer_types(self) -> list[str]:
        return ["linear_attention" if (i + 1) % self.interval else "full_attention" for i in range(self.layers)]


@dataclass(frozen=True)
class Family:
    """A kind of published checkpoint, as data.

    config: keys of config.json that do not depend on sizes, in the order of the file. For a key ending in
        `_token_id`, a text stands for its id in the family's vocabulary.
    size_keys: key of config.json -> attribute of Sizes; one that is None is not written.
    rope: rope_theta first, then the others; empty if the family has other names for them (in `config`).
    sizes: defaults other than those of Sizes.
    norm_middle: 0 where norms are stored less one, with `plain_norms` (ends of names) stored as they are.
    float32: ends of the names of tensors that are F32 whatever the checkpoint's dtype.
    whole: makes the whole config.json of what is then its `text_config`.
    """

    tokens: str
    config: dict[str, Any]
    size_keys: dict[str, str]
    tensors: Callable[[Sizes], Shapes]
    rope: Mapping[str, Any] = field(default_factory=dict)
    rope_style: str = "old"
    sizes: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_file: str | None = "tokenizer.json"
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    norm_middle: int = 1
    plain_norms: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    experts: str = "each"
    whole: Callable[[dict[str, Any], Sizes], dict[str, Any]] | None = None


# The names transformers itself uses for the sizes of a model
SIZE_KEYS = {
    "hidden_size": "hidden",
    "intermediate_size": "ffn",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "tie_word_embeddings": "tied",
    "vocab_size": "vocab",
}
COMMON = {"attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def linear(name: str, rows: int, columns: int, *, bias: bool = False) -> Shapes:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def norms(size: int, *names: str) -> Shapes:
    return {f"{name}.weight": (size,) for name in names}


def attention(s: Sizes, *, bias: bool, qk_norm: bool = False, gated: bool = False) -> Shapes:
    """Softmax attention; gated: each head's query rows are followed by as many rows of its output gate."""
    q, kv = s.heads * s.head, s.kv_heads * s.head
    return under(
        "self_attn.",
        linear("q_proj", 2 * q if gated else q, s.hidden, bias=bias)
        | linear("k_proj", kv, s.hidden, bias=bias)
        | linear("v_proj", kv, s.hidden, bias=bias)
        | linear("o_proj", s.hidden, q)
        | (norms(s.head, "q_norm", "k_norm") if qk_norm else {}),
    )


def block(mixer: Shapes, mlp: Shapes, hidden: int, *more_norms: str) -> Shapes:
    """A decoder layer. The goldens know the order: of the feed-forward network, its last matrix comes first."""
    down = {name: shape for name, shape in mlp.items() if name == "mlp.down_proj.weight"}
    return (
        mixer | down | norms(hidden, "input_layernorm", "post_attention_layernorm") | mlp | norms(hidden, *more_norms)
    )


def swiglu(hidden: int, ffn: int, prefix: str = "mlp") -> Shapes:
    return under(
        f"{prefix}.",
        linear("gate_proj", ffn, hidden) | linear("up_proj", ffn, hidden) | linear("down_proj", hidden, ffn),
    )


def experts(s: Sizes) -> Shapes:
    """The router, and the routed experts one by one."""
    each = [swiglu(s.hidden, s.moe_ffn, f"mlp.experts.{i}") for i in range(s.experts)]
    return linear("mlp.gate", s.experts, s.hidden) | {name: shape for one in each for name, shape in one.items()}


def decoder(s: Sizes, layer: Callable[[Sizes, int], Shapes], prefix: str = "model.") -> Shapes:
    """Embedding, layers, last norm and head; names and shapes, rows = outputs first."""
    layers = [under(f"{prefix}layers.{i}.", layer(s, i)) for i in range(s.layers)]
    return {
        f"{prefix}embed_tokens.weight": (s.vocab, s.hidden),
        **{name: shape for one in layers for name, shape in one.items()},
        f"{prefix}norm.weight": (s.hidden,),
        "lm_head.weight": (s.vocab, s.hidden),
    }
