"""What a model costs. llama.cpp says in its log what it allocates, also for real models whose weights are a hole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf.constants import GGMLQuantizationType

from convert import gguf_file
from convert.metadata import KV
from convert.pipeline import convert
from convert.writer import header_bytes, layout, padded
from edge.cost import (
    COMPUTE_MARGIN,
    Product,
    attention_flops,
    compute_bytes,
    file_bytes,
    flops_per_token,
    kv_bytes,
    kv_bytes_per_token,
    products,
    read_per_token,
    row_bytes,
    weight_bytes,
    work_bytes,
)
from edge.llama.batch import Batch
from edge.llama.context import KV_TYPES, Context
from edge.llama.library import load
from edge.llama.model import Model
from edge.lock_file import read_lock, shipped_path
from edge.shapes import (
    ModelShape,
    file_tensors,
    from_config,
    from_gguf,
    level_tensors,
    locked_hparams,
    network_metadata,
    of_hparams,
)
from tests.checkpoints import FAMILIES
from tests.convert.small import CASES, build_small
from tests.edge import tiny_gguf

MIB, KIB = 1 << 20, 1 << 10
LOGGED = 0.006  # MiB: the log has two decimals
LOCK = read_lock(shipped_path())
# One of each architecture that the lock has.
REAL = ("chatglm3-6b", "glm-4-9b-0414", "glm-4.5-air", "glm-4.7-flash", "qwen-7b-chat", "qwen2.5-7b", "qwen3-0.6b")
REAL += ("qwen3-30b-a3b", "qwen3.5-0.8b")
hollow_files = pytest.mark.skipif(sys.platform == "win32", reason="a file with a hole takes its whole size there")
no_gpu = pytest.mark.skipif(load().llama_supports_gpu_offload(), reason="memory is foretold for the CPU")

Logged = Callable[[Callable[[], Any]], str]


def locked_shape(name: str) -> ModelShape:
    model = LOCK[name]
    assert model.architecture and model.context_length
    return from_config(model.architecture, model.config, model.context_length)


# --- memory, as llama.cpp logs it


def mib(log: str, what: str) -> float:
    return sum(float(size) for size in re.findall(rf"\w +{what} buffer size = +([\d.]+) MiB", log))


def cache_mib(log: str) -> float:
    """Also where nothing is really allocated."""
    return sum(float(size) for size in re.findall(r"llama_kv_cache: size = +([\d.]+) MiB", log))


def check_memory(log: str, shape: ModelShape, cells: int, rows: int, kv_type: str, flash_attn: bool, n: int) -> None:
    """``n`` sequences, and as many outputs."""
    cache = cache_mib(log) + mib(log, "RS")
    assert kv_bytes(shape, cells, kv_type, n) / MIB == pytest.approx(cache, abs=2 * LOGGED)
    options: dict[str, Any] = {"flash_attn": flash_attn, "kv_type": kv_type, "sequences": n}
    found = compute_bytes(shape, cells, outputs=n, rows=rows, **options) / MIB
    real = mib(log, "compute") + mib(log, "output")
    assert 0 < real <= found <= 1.5 * real + COMPUTE_MARGIN / MIB


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    """What llama.cpp says during an action."""

    def log(action: Callable[[], Any]) -> str:
        capsys.readouterr()
        load(verbose=True)
        try:
            action()
        finally:
            load()
        return capsys.readouterr().err

    return log


@no_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_context_takes_what_was_foretold(tmp_path: Path, logged: Logged, family: str) -> None:
    """Three sequences of 300 tokens have 512 cells each."""
    name = next(name for name, case in CASES.items() if case["family"] == family)
    path = tmp_path / "x.gguf"
    convert(build_small(tmp_path / "checkpoint", name), {"F16": path})
    with Model(path) as model:
        shape = from_gguf(model.file)
        for n, n_ctx, cells in ((1, 2048, 2048), (3, 900, 1536)):
            for flash_attn in (True, False):
                options: dict[str, Any] = {"n_seq_max": n, "threads": 1, "flash_attn": flash_attn}
                log = logged(lambda n_ctx=n_ctx, options=options: Context(model, n_ctx, **options).close())
                check_memory(log, shape, cells, 512, "f16", flash_attn, n)


@no_gpu
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_a_cache_of_every_type(tmp_path: Path, logged: Logged, kv_type: str) -> None:
    heads = {"qwen2.attention.head_count": 2, "qwen2.attention.head_count_kv": 1}  # of 32 values: a block
    with Model(tiny_gguf.write(tmp_path / "wide.gguf", heads)) as model:
        log = logged(lambda: Context(model, 5000, threads=1, kv_type=kv_type, flash_attn=True).close())
        check_memory(log, from_gguf(model.file), 5120, 512, kv_type, True, 1)


@no_gpu
@hollow_files
@pytest.mark.parametrize("name", REAL)
def test_a_real_model(tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """llama.cpp takes a file of the shape that the lock's words give, names and all, and allocates what is foretold."""
    locked, lib = LOCK[name], load()
    assert locked.architecture and locked.context_length
    shape = hollow(tmp_path / "x.gguf", locked.architecture, dict(locked.config), locked.context_length)
    assert shape == locked_shape(name)
    usual = lib.llama_model_default_params

    def without_weights() -> Any:
        params = usual()
        params.no_alloc = True
        return params

    monkeypatch.setattr(lib, "llama_model_default_params", without_weights)
    with Model(tmp_path / "x.gguf", use_mmap=False) as model:
        for n, cells, rows, kv_type, flash_attn in (
            (1, 512, 512, "f16", False),
            (1, 8192, 512, "f16", False),
            (1, 8192, 512, "q8_0", True),
            (1, 8192, 64, "f32", True),
            (1, 32768, 64, "f16", True),
            (4, 8192, 128, "f16", False),
            (4, 8192, 128, "f16", True),
        ):
            options: dict[str, Any] = {"n_batch": rows, "n_ubatch": rows, "n_seq_max": n, "threads": 1}
            options |= {"kv_type": kv_type, "flash_attn": flash_attn}
            log = logged(lambda cells=cells, options=options: Context(model, cells, **options).close())
            check_memory(log, shape, cells, rows, kv_type, flash_attn, n)


def hollow(path: Path, architecture: str, config: dict[str, Any], context_length: int) -> ModelShape:
    """Write a GGUF at Q8_0 that has everything but weights, where there is a hole; its vocabulary means nothing."""
    family, hparams = locked_hparams(architecture, config, context_length)
    shape = of_hparams(architecture, family, hparams)
    tokens, _ = tiny_gguf.vocabulary()
    tokens += [f"[{i}]" for i in range(len(tokens), shape.vocabulary)]
    vocabulary = [
        KV("tokenizer.ggml.model", "str", "gpt2"),
        KV("tokenizer.ggml.pre", "str", "qwen2"),
        KV("tokenizer.ggml.tokens", "[str]", tokens),
        KV("tokenizer.ggml.token_type", "[i32]", [tiny_gguf.NORMAL] * len(tokens)),
        KV("tokenizer.ggml.merges", "[str]", tiny_gguf.MERGES),
        KV("tokenizer.ggml.eos_token_id", "u32", tiny_gguf.IM_END),
    ]
    infos = layout(
        (name, dims[1:] if dims[0] == 1 else dims, GGMLQuantizationType[qtype])
        for name, dims, qtype, _ in level_tensors(shape, "Q8_0")
    )
    header = header_bytes([*network_metadata(family, hparams), *vocabulary], infos)
    path.write_bytes(header)
    os.truncate(path, len(header) + sum(padded(info.nbytes) for info in infos))
    return shape


WIDE = {
    "hidden_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 256,
    "vocab_size": tiny_gguf.N_VOCAB,
}


@no_gpu
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("flash_attn", [False, True])
def test_a_prompt_takes_the_memory_that_was_foretold(tmp_path: Path, flash_attn: bool) -> None:
    """Scores are copied once more for the next product, into a buffer that llama.cpp does not log: half as much again.

    In a process of its own: here, what earlier tests freed and the allocator kept would be used first.
    """
    cells, rows = 2048, 512
    shape = hollow(tmp_path / "x.gguf", "Qwen3ForCausalLM", WIDE, cells)
    code = (
        "import sys; from pathlib import Path; from tests.edge.test_cost import memory_of_a_prompt;"
        "print(memory_of_a_prompt(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == 'True'))"
    )
    arguments = [str(tmp_path / "x.gguf"), str(cells), str(rows), str(flash_attn)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, cwd=root
    )
    taken = int(done.stdout)
    foretold = compute_bytes(shape, cells, flash_attn=flash_attn) + work_bytes(shape, cells, flash_attn=flash_attn)
    assert taken <= foretold + kv_bytes(shape, cells) + 16 * MIB
    if not flash_attn:
        assert taken > 0.9 * foretold - 16 * MIB and foretold > 1.4 * compute_bytes(shape, cells, flash_attn=False)


def memory_of_a_prompt(path: Path, cells: int, rows: int, flash_attn: bool) -> int:
    """Bytes that computing a prompt of ``cells`` tokens, ``rows`` at once, takes beside the weights."""
    with Model(path) as model:
        context, batch = Context(model, cells, threads=1, flash_attn=flash_attn), Batch(rows)
        before = anonymous_bytes()
        for start in range(0, cells, rows):
            batch.clear()
            for pos in range(start, start + rows):
                batch.add(1, pos, want_logits=pos == cells - 1)
            context.decode(batch)
        return anonymous_bytes() - before


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) * KIB


# --- weights


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "qwen3-30b-a3b", "glm-4-9b-0414"])
def test_the_bytes_of_a_file(name: str) -> None:
    """Exact but for vocabulary and metadata: Qwen's have 39 bytes a token."""
    shape = locked_shape(name)
    tensors = level_tensors(shape, "Q4_K_M")
    more = file_bytes(shape, "Q4_K_M") - weight_bytes(tensors)
    assert 35 * shape.vocabulary < more < 55 * shape.vocabulary
    assert more < 0.02 * weight_bytes(tensors)


def test_bits_per_weight_are_those_of_the_types() -> None:
    """Q4_0 has 4.5 but for the output matrix, whose 6.6 are those of Q6_K."""
    shape = locked_shape("qwen3-8b")
    head = 151936 * 4096 / shape.parameters
    for level, bits in (("Q4_0", 4.5 * (1 - head) + 6.5625 * head), ("Q8_0", 8.5), ("BF16", 16.0)):
        found = 8 * weight_bytes(level_tensors(shape, level)) / shape.parameters
        assert found == pytest.approx(bits, rel=0.001)  # norms are F32


# Billions of parameters that a token is multiplied by; published figures count the embedding twice, once or never.
ACTIVE = {
    "qwen3-30b-a3b": 3.3 - 0.31,
    "glm-4.5-air": 12.0 + 0.62,
    "qwen2.5-7b": 6.53 + 0.545,
    "qwen2.5-0.5b": 0.494,  # its embedding is the output
    "qwen3-0.6b": 0.44 + 0.156,
}


@pytest.mark.parametrize("name", ACTIVE)
def test_active_weights(name: str) -> None:
    shape = locked_shape(name)
    tensors = level_tensors(shape, "Q8_0")
    active = sum(product.active_weights for product in products(tensors, shape))
    assert active / 1e9 == pytest.approx(ACTIVE[name], rel=0.02)
    assert flops_per_token(tensors, shape) == 2 * active


def test_what_a_token_reads_of_a_tied_model() -> None:
    """All of it, the embedding too, which is the output."""
    shape = locked_shape("qwen2.5-0.5b")
    tensors = level_tensors(shape, "Q4_K_M")
    read = read_per_token(tensors, shape)
    assert sum(read.values()) == weight_bytes(tensors)
    assert read["Q6_K"] == weight_bytes(tensor for tensor in tensors if tensor.qtype == "Q6_K") > 0


def test_what_a_token_reads_of_an_untied_model() -> None:
    """One row of the embedding."""
    shape = locked_shape("qwen2.5-7b")
    tensors = level_tensors(shape, "Q8_0")
    others = weight_bytes(tensor for tensor in tensors if tensor.name != "token_embd.weight")
    assert sum(read_per_token(tensors, shape).values()) == others + 3584 // 32 * 34


def test_what_a_token_reads_of_experts_and_nothing_of_prediction() -> None:
    """GLM-4.5-Air: 8 of 128 experts; its 47th layer predicts the token after the next and is not loaded."""
    shape = locked_shape("glm-4.5-air")
    everything = level_tensors(shape, "F16")
    used = [tensor for tensor in everything if not tensor.name.startswith("blk.46.")]
    experts = weight_bytes(tensor for tensor in used if "_exps" in tensor.name)
    embedding, row = 151552 * 4096 * 2, 4096 * 2
    expected = weight_bytes(used) - experts * 120 // 128 - embedding + row
    assert sum(read_per_token(everything, shape).values()) == expected
    assert weight_bytes(used) < 0.97 * weight_bytes(everything)


def test_products_are_grouped(tmp_path: Path) -> None:
    file = gguf_file.read(tiny_gguf.write(tmp_path / "tiny.gguf"))
    assert products(file_tensors(file), from_gguf(file)) == [
        Product("F32", 64, 128, 4, 1.0),  # gate and up of two layers
        Product("F32", 64, 300, 1, 1.0),  # the embedding as output
        Product("F32", 64, 64, 4, 1.0),  # queries, and what attention gives
        Product("F32", 128, 64, 2, 1.0),  # down
        Product("F32", 64, 32, 4, 1.0),  # keys and values
    ]


def test_experts_are_products_of_their_own() -> None:
    shape = locked_shape("qwen3-30b-a3b")
    found = products(level_tensors(shape, "Q8_0"), shape)
    (down,) = [product for product in found if (product.columns, product.rows) == (768, 2048)]
    assert down == Product("Q8_0", 768, 2048, 48 * 128, 8 / 128)
    assert down.active_weights == 48 * 8 * 768 * 2048
    assert (down.nbytes, down.active_bytes) == (down.weights // 32 * 34, down.active_weights / 32 * 34)
    assert [product.count for product in found if product.rows == shape.vocabulary] == [1], "no embedding"
    assert [product.weights for product in found] == sorted((product.weights for product in found), reverse=True)


def test_both_halves_of_latent_attention_are_products_for_each_head() -> None:
    shape = locked_shape("glm-4.7-flash")
    found = products(level_tensors(shape, "F16"), shape)
    assert Product("F16", 192, 512, 47 * 20, 1.0) in found  # keys, turned around
    assert Product("F16", 512, 256, 47 * 20, 1.0) in found  # values


def test_convolutions_and_vectors_are_no_products() -> None:
    shape = locked_shape("qwen3.5-0.8b")
    tensors = level_tensors(shape, "F32")
    vectors = [tensor for tensor in tensors if len(tensor.shape) == 1 or "conv1d" in tensor.name]
    prediction = [tensor for tensor in tensors if tensor.name.startswith("blk.24.") and tensor not in vectors]
    left = weight_bytes(tensors) - weight_bytes(vectors) - weight_bytes(prediction)
    assert sum(product.nbytes for product in products(tensors, shape)) == left
    assert vectors and prediction


# --- the cache


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("qwen2.5-0.5b", 24 * 2 * 2 * 64),
        ("qwen2.5-7b", 28 * 2 * 4 * 128),
        ("qwen3-8b", 36 * 2 * 8 * 128),
        ("glm-4-9b-0414", 40 * 2 * 2 * 128),
        ("chatglm3-6b", 28 * 2 * 2 * 128),
        ("qwen3.5-0.8b", 6 * 2 * 2 * 256),  # of 24 layers
        ("glm-4.7-flash", 47 * (512 + 64)),  # no values
    ],
)
def test_the_cache_of_a_token(name: str, values: int) -> None:
    shape = locked_shape(name)
    assert kv_bytes_per_token(shape) == 2 * values
    assert kv_bytes_per_token(shape, "q8_0") == values // 32 * 34
    assert kv_bytes_per_token(shape, "nonsense") == 4 * values, "Context refuses it in words"
    assert kv_bytes(shape, 1000, sequences=3) == 1000 * 2 * values + 3 * shape.state_bytes


def test_rows() -> None:
    assert [row_bytes(kind, 256) for kind in ("F32", "f16", "Q8_0", "Q4_K")] == [1024, 512, 272, 144]


# --- operations and intermediate results


def test_attention_grows_with_what_was_said() -> None:
    shape = locked_shape("qwen2.5-7b")
    assert attention_flops(shape, 0) == 0
    assert attention_flops(shape, 1000) == 28 * 28 * 128 * 4 * 1000
    tensors = level_tensors(shape, "Q8_0")
    assert flops_per_token(tensors, shape, 1000) - flops_per_token(tensors, shape) == attention_flops(shape, 1000)
    hybrid = locked_shape("qwen3.5-0.8b")
    assert attention_flops(hybrid, 1000) - attention_flops(hybrid, 0) == 6 * 8 * 256 * 4 * 1000
    assert attention_flops(hybrid, 0) > 0, "states cost the same at every depth"


def test_scores_are_the_most_of_a_long_context_without_flash_attention() -> None:
    shape = locked_shape("qwen2.5-7b")
    plain, flash = (compute_bytes(shape, 32768, flash_attn=on) for on in (False, True))
    assert plain - flash > 0.9 * 4 * 512 * 32768 * 28
    assert compute_bytes(shape, 32768, flash_attn=False, sequences=4) < plain / 3, "each sees its own"
    assert work_bytes(shape, 32768, flash_attn=False) == 2 * 512 * 32768 * 28
    assert work_bytes(shape, 32768, flash_attn=True) == 2 * 512 * 18944


def test_a_step_has_no_more_rows_than_the_context_has_cells() -> None:
    shape = locked_shape("qwen2.5-7b")
    full, few = (compute_bytes(shape, 256, flash_attn=True, rows=rows) for rows in (512, 256))
    assert full == few


def test_logits_are_counted_twice() -> None:
    """In the graph, and where they are read."""
    shape = locked_shape("qwen2.5-0.5b")
    one, all_rows = (compute_bytes(shape, 4096, flash_attn=True, outputs=n) for n in (1, 512))
    assert all_rows > 2 * 512 * 151936 * 4 > 4 * one
