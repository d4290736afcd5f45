"""What a model costs: bytes of weights, cache and intermediate results, floating-point operations of a token. Pure.

Formulas of llama.cpp as llama-cpp-python 0.3.36 has it, on the CPU. Bytes, unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from convert.gguf_file import DEFAULT_ALIGNMENT
from convert.levels import layer_of
from edge.shapes import ModelShape, SizedTensor, level_tensors

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
TOKEN_BYTES = 45  # of a vocabulary's token, its type and merges: from 22 (ChatGLM3) to 55 (GLM-4), Qwen 39
INFO_BYTES = 64  # of a tensor's entry in the header
F32 = 4  # bytes
COMPUTE_MARGIN = 1 << 20  # small inputs, and gaps between results
STATE_OPERATIONS = 7  # of the gated delta rule for each value of a state: decay, read, correct, read again


@dataclass(frozen=True)
class Product:
    """Equal matrices that a token is multiplied by: ``count`` of ``rows`` x ``columns``, each row of type ``qtype``.

    Of ``count`` experts a token uses the part ``active``, of other matrices all (1.0).
    """

    qtype: str
    columns: int
    rows: int
    count: int
    active: float

    @property
    def weights(self) -> int:
        return self.count * self.rows * self.columns

    @property
    def nbytes(self) -> int:
        return self.count * self.rows * row_bytes(self.qtype, self.columns)

    @property
    def active_weights(self) -> float:
        """Weights that are multiplied for one token."""
        return self.weights * self.active

    @property
    def active_bytes(self) -> float:
        """What is read of them for one token alone."""
        return self.nbytes * self.active


# --- weights


def weight_bytes(tensors: Iterable[SizedTensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def file_bytes(shape: ModelShape, level_name: str) -> int:
    """About the size of a GGUF: exact for its tensors, for vocabulary and metadata within 2 MB (Qwen) or 4 MB (GLM),
    which is 0.5 % of the smallest files. Raises EdgeError for a level that there is not."""
    tensors = level_tensors(shape, level_name)
    data = sum(-(-tensor.nbytes // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT for tensor in tensors)
    return data + len(tensors) * INFO_BYTES + shape.vocabulary * TOKEN_BYTES


def read_per_token(tensors: Sequence[SizedTensor], shape: ModelShape) -> Mapping[str, int]:
    """What is read of the weights to decode one token of one sequence, by type.

    Everything but the embedding, of which it is one row, unless it serves as the output as well; of a layer's
    experts those that a token uses; nothing of the layers that predict further tokens.
    """
    read: Counter[str] = Counter()
    for tensor in used_tensors(tensors, shape):
        whole = tensor.name != EMBEDDING or is_tied(tensors)
        read[tensor.qtype] += round(tensor.nbytes * active_part(tensor, shape)) if whole else row_of(tensor)
    return dict(read)


def products(tensors: Sequence[SizedTensor], shape: ModelShape) -> list[Product]:
    """The matrices that a token is multiplied by, the ones with the most weights first.

    Not vectors and convolutions, nor an embedding that only gives rows.
    """
    counts: Counter[tuple[str, int, int, float]] = Counter()
    for tensor in used_tensors(tensors, shape):
        if (tensor.name == EMBEDDING and not is_tied(tensors)) or "ssm_conv1d" in tensor.name:
            continue
        *outer, rows, columns = (1, 1, *tensor.shape)
        if rows > 1:
            counts[tensor.qtype, columns, rows, active_part(tensor, shape)] += math.prod(outer)
    found = [Product(qtype, columns, rows, n, active) for (qtype, columns, rows, active), n in counts.items()]
    return sorted(found, key=lambda product: product.weights, reverse=True)


def used_tensors(tensors: Iterable[SizedTensor], shape: ModelShape) -> Iterator[SizedTensor]:
    """Those that answering reads: llama.cpp does not even load layers that predict further tokens (``load_mtp``)."""
    return (tensor for tensor in tensors if layer_of(tensor.name) < shape.layers)


def is_tied(tensors: Iterable[SizedTensor]) -> bool:
    """Whether the embedding is the output matrix too."""
    return all(tensor.name != OUTPUT for tensor in tensors)


def active_part(tensor: SizedTensor, shape: ModelShape) -> float:
    return shape.experts_used / shape.experts if "_exps." in tensor.name and shape.experts else 1.0


def row_of(tensor: SizedTensor) -> int:
    return tensor.nbytes // math.prod(tensor.shape[:-1])


def row_bytes(qtype: str, width: int) -> int:
    """Bytes of ``width`` values; of a type that there is not, as many as of F32."""
    block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType.__members__.get(qtype.upper(), GGMLQuantizationType.F32)]
    return -(-width // block) * nbytes


# --- operations


def flops_per_token(tensors: Sequence[SizedTensor], shape: ModelShape, depth: int = 0) -> float:
    """Operations to compute one token behind ``depth`` others: two for each weight it is multiplied by, and those of
    attention."""
    return 2 * sum(product.active_weights for product in products(tensors, shape)) + attention_flops(shape, depth)


def prompt_flops_per_token(tensors: Sequence[SizedTensor], shape: ModelShape) -> float:
    """Operations with weights for one token of a prompt: without the output matrix, which only its last token needs."""
    inner = (product for product in products(tensors, shape) if not is_output(product, shape))
    return 2 * sum(product.active_weights for product in inner)


def is_output(product: Product, shape: ModelShape) -> bool:
    return product.rows == shape.vocabulary


def attention_flops(shape: ModelShape, depth: int) -> int:
    """Operations of one token between its ``depth`` predecessors and itself: every head's query with every key, the
    sum of values; for linear attention, those on the states.

    llama.cpp attends in the small space of latent attention, with one key for all heads.
    """
    full = 2 * shape.attention_layers * shape.heads * (shape.key_length + shape.value_length) * depth
    return full + STATE_OPERATIONS * shape.state_bytes // F32


# --- the cache


def kv_bytes_per_token(shape: ModelShape, kv_type: str = "f16") -> int:
    """Keys and values of one token in all layers that have them (``llama_kv_cache``); latent attention keeps no
    values."""
    keys = row_bytes(kv_type, shape.kv_heads * shape.key_length)
    values = 0 if shape.latent else row_bytes(kv_type, shape.kv_heads * shape.value_length)
    return shape.attention_layers * (keys + values)


def kv_bytes(shape: ModelShape, cells: int, kv_type: str = "f16", sequences: int = 1) -> int:
    """What a context allocates for ``cells`` tokens, those of all ``sequences`` together, and for their states, which
    linear attention keeps in F32 (``llama_memory_recurrent``).

    ``cells`` as ``edge.llama.context`` rounds them: each sequence has a multiple of 256.
    """
    return cells * kv_bytes_per_token(shape, kv_type) + sequences * shape.state_bytes


# --- intermediate results


def compute_bytes(
    shape: ModelShape,
    n_ctx: int,
    *,
    flash_attn: bool,
    outputs: int = 1,
    rows: int = 512,
    kv_type: str = "f16",
    sequences: int = 1,
) -> int:
    """An upper estimate of llama.cpp's compute and output buffers: for steps of ``rows`` tokens, of which the logits of
    ``outputs`` are read, over a cache of ``n_ctx`` cells for ``sequences`` together.

    The same memory serves part after part of a layer, so it is that of the largest: attention, feed-forward, linear
    attention, or the logits. How many other vectors lie beside a part's own is fitted to the buffers of 24 models from
    0.5 to 110 B: never less, at most 1.5 times as much and a ``COMPUTE_MARGIN``. Not in it: ``work_bytes``.
    """
    rows, cells = min(rows, n_ctx), n_ctx // sequences
    logits = outputs * shape.vocabulary
    in_attention = copied_cache(shape, n_ctx, kv_type) if flash_attn else scores(shape, rows, cells, n_ctx)
    parts = (
        rows * attention_width(shape) + in_attention,
        rows * feed_forward_width(shape),
        rows * linear_width(shape) + 2 * sequences * state_values(shape),
        outputs * attention_width(shape) + logits,
    )
    mask = rows * cells * (2 if flash_attn else 4)  # F16 or F32
    return F32 * (max(parts) + logits) + mask + COMPUTE_MARGIN


def work_bytes(shape: ModelShape, n_ctx: int, *, flash_attn: bool, rows: int = 512, sequences: int = 1) -> int:
    """An upper estimate of what the CPU allocates besides: for the inputs of a product in the type that its kernel
    wants, at most two bytes each (``ggml_graph_plan``). Without flash attention these are all scores; as those of
    ``compute_bytes``, memory for them is touched only as the cache fills.
    """
    rows, cells = min(rows, n_ctx), n_ctx // sequences
    inputs = max(dense_width(shape), expert_width(shape), shape.heads * shape.key_length, shape.hidden)
    return 2 * rows * max(inputs, 0 if flash_attn else cells * shape.heads)


def scores(shape: ModelShape, rows: int, cells: int, n_ctx: int) -> int:
    """Of every head with every cell of a row's sequence; and the values of latent attention, turned around in F16."""
    return rows * cells * shape.heads + (n_ctx * shape.value_length // 2 if shape.latent else 0)


def copied_cache(shape: ModelShape, n_ctx: int, kv_type: str) -> int:
    """Flash attention has no kernel for F32: a layer's keys and values are copied as F16."""
    return n_ctx * shape.kv_heads * (shape.key_length + shape.value_length) // 2 if kv_type == "f32" else 0


def attention_width(shape: ModelShape) -> int:
    """Values of one row beside the scores: hidden vectors, queries twice, keys and values; the queries' gates of a
    hybrid, a shared expert that is computed at the same time."""
    queries = shape.heads * shape.key_length
    gates = max(0, widest(shape, ".attn_q.weight", -2) - queries)
    kept = shape.kv_heads * (shape.key_length + shape.value_length)
    return 6 * shape.hidden + 2 * queries + gates + kept + widest(shape, ".ffn_down_shexp.weight", -1)


def feed_forward_width(shape: ModelShape) -> int:
    """Values of one row: both branches and their product, what comes out of each expert, and what attention left."""
    queries = shape.heads * shape.key_length * (1 if shape.latent else 2)
    kept = shape.kv_heads * (shape.key_length + shape.value_length)
    beside = max(5 * shape.hidden, 2 * shape.hidden + queries + kept)
    return max(3 * dense_width(shape), 3 * expert_width(shape) + shape.experts_used * shape.hidden) + beside


def dense_width(shape: ModelShape) -> int:
    return max(widest(shape, f".ffn_down{kind}.weight", -1) for kind in ("", "_shexp"))


def expert_width(shape: ModelShape) -> int:
    return shape.experts_used * widest(shape, ".ffn_down_exps.weight", -1)


def linear_width(shape: ModelShape) -> int:
    """Values of one row of linear attention: what goes into the convolution, comes out and is cut up; the result."""
    convolved = widest(shape, ".ssm_conv1d.weight", 0)
    return 2 * shape.hidden + 3 * convolved + widest(shape, ".ssm_out.weight", -1) if convolved else 0


def state_values(shape: ModelShape) -> int:
    """Of one layer's state for one sequence."""
    return shape.state_bytes // F32 // max(1, shape.layers - shape.attention_layers)


def widest(shape: ModelShape, end: str, axis: int) -> int:
    """The largest such dimension of tensors whose names end so; 0 without any."""
    return max((dims[axis] for name, dims in shape.tensors if name.endswith(end)), default=0)
