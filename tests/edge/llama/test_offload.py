"""How many layers go to GPUs. None is needed: what llama.cpp does is computed a second time, or read in its log."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from ctypes import c_float
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert import gguf_file
from convert.gguf_file import GgufError
from convert.pipeline import convert
from edge import machine
from edge.api import Engine
from edge.llama import offload
from edge.llama.context import Context
from edge.llama.library import load
from edge.llama.model import Model
from edge.llama.offload import (
    MARGIN,
    auto_offload,
    compute_bytes,
    device_memory,
    free_memory,
    kv_bytes,
    layers_that_fit,
    placement,
    weight_bytes,
)
from tests.checkpoints import FAMILIES
from tests.convert.small import CASES, build_small
from tests.edge import tiny_gguf

MIB = 1 << 20
SHARE = st.one_of(st.integers(0, 9), st.floats(0, 1, width=32), st.integers(0, 1 << 37))
SHARES = st.lists(SHARE, min_size=1, max_size=5).filter(lambda shares: sum(shares) > 1e-30)


# --- which GPU has which layer


def llama_placement(n: int, shares: Sequence[float]) -> list[int]:
    """Step by step what llama.cpp's loader does, each result rounded to a C float."""
    ends, total = [], 0.0
    for share in shares:
        total = c_float(total + c_float(share).value).value
        ends.append(total)
    ends = [c_float(end / total).value for end in ends]
    return [next(gpu for gpu, end in enumerate(ends) if end > c_float(i / n).value) for i in range(n)]


@given(st.integers(1, 130), SHARES)
def test_layers_lie_where_llama_puts_them(n: int, shares: list[float]) -> None:
    places = placement(n, shares)
    assert places == llama_placement(n, shares)
    assert places == sorted(places) and len(places) == n
    assert all(shares[gpu] > 0 for gpu in places)


@pytest.mark.parametrize(
    ("n", "shares", "places"),
    [
        (4, [3, 1], [0, 0, 0, 1]),
        (4, [1, 3], [0, 1, 1, 1]),
        (4, [0, 1], [1] * 4),
        (4, [1, 0], [0] * 4),
        (4, [0, 1, 0, 1, 0], [1, 1, 3, 3]),
        (1, [1, 1], [0]),
        (5, [1, 1], [0, 0, 0, 1, 1]),
    ],
)
def test_shares_of_layers(n: int, shares: list[float], places: list[int]) -> None:
    assert placement(n, shares) == places


@pytest.mark.parametrize(("n", "shares"), [(9, [0.3, 0.3, 0.3]), (10, [0.8, 0.1, 0.1])])
def test_a_layer_on_the_line_between_two_gpus(n: int, shares: list[float]) -> None:
    """Computed with 64 bits, the line fell on the other side of a layer than in llama.cpp, which has 32."""
    assert placement(n, shares) == llama_placement(n, shares)


# --- how many fit


@given(
    free=st.lists(st.integers(0, 400), min_size=1, max_size=4),
    layers=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    output=st.integers(0, 100),
    kv=st.integers(0, 20),
    compute=st.integers(0, 40),
    margin=st.integers(0, 60),
    split=st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
def test_no_gpu_is_overfull_and_one_more_layer_would_be_too_much(
    free: list[int],
    layers: list[int],
    output: int,
    kv: int,
    compute: int,
    margin: int,
    split: list[int] | None,
) -> None:
    n = layers_that_fit(free, layers, output, kv, compute, margin, split)
    used = (split or [])[: len(free)]
    shares = used + [0] * (len(free) - len(used)) if sum(used) else [max(0, one - margin - compute) for one in free]
    sizes = [*(layer + kv for layer in layers), output]

    def fits(count: int) -> bool:
        if not sum(shares):
            return False
        places = llama_placement(count, shares)
        taken = {gpu: compute + margin for gpu in places}
        for gpu, size in zip(places, sizes[len(sizes) - count :], strict=True):
            taken[gpu] += size
        return all(taken[gpu] <= free[gpu] for gpu in taken)

    assert 0 <= n <= len(sizes)
    assert n == 0 or fits(n)
    assert not any(fits(more) for more in range(n + 1, len(sizes) + 1))


def test_one_gpu_is_filled_to_the_byte() -> None:
    def fit(free: int) -> int:
        return layers_that_fit([free], [100] * 4, 50, 10, 30, margin=1000)

    everything = 4 * 110 + 50 + 30 + 1000
    assert [fit(everything), fit(everything - 1)] == [5, 4]
    assert [fit(1000 + 30 + 50), fit(1000 + 30 + 49), fit(0)] == [1, 0, 0]


def test_the_margin_is_that_of_llamas_tools() -> None:
    assert MARGIN == 1024 * MIB
    assert [layers_that_fit([MARGIN + more], [5], 5, 0, 0) for more in (4, 5, 10)] == [0, 1, 2]


@pytest.mark.parametrize("split", [None, (), (0, 0), (0, 0, 7)])
def test_a_split_of_nothing_is_one_by_room(split: tuple[int, ...] | None) -> None:
    """Zeros gave no layer to any GPU; llama.cpp takes them for no split, and the seventh share has no GPU here."""
    assert layers_that_fit([300, 100], [10] * 39, 10, 0, 0, margin=0, split=split) == 40


@pytest.mark.parametrize("split", [(-1, 2), (2, -1), (math.nan, 1), (math.inf, 1), (-1, -1)])
def test_a_split_that_makes_no_sense_is_left_to_the_model(split: tuple[float, ...], tiny_path: Path) -> None:
    assert layers_that_fit([300, 100], [10] * 3, 10, 0, 0, margin=0, split=split) == 0
    with pytest.raises(Exception, match="no split over GPUs"):
        Model(tiny_path, tensor_split=split)


def test_a_gpu_without_a_share_may_be_full() -> None:
    assert layers_that_fit([0, 100], [10] * 3, 10, 0, 0, margin=0, split=(0, 1)) == 4
    assert layers_that_fit([100, 0], [10] * 3, 10, 0, 0, margin=0, split=(1,)) == 4
    assert layers_that_fit([100, 0], [10] * 3, 10, 0, 0, margin=0, split=(1, 1)) == 1, "one layer, on the first"


# --- what the file says


def test_weights(tiny_path: Path, tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    layers, output = weight_bytes(gguf_file.read(tiny_path))
    each = [sum(one.nbytes for name, one in weights.items() if name.startswith(f"blk.{i}.")) for i in range(2)]
    norm, embedding = weights["output_norm.weight"].nbytes, weights["token_embd.weight"].nbytes
    assert layers == each
    assert output == norm + embedding, "the embedding is used for the output, and copied for it"
    weights["output.weight"] = weights["token_embd.weight"][:200]
    own = gguf_file.read(tiny_gguf.write(tmp_path / "own.gguf", weights=weights))
    assert weight_bytes(own) == (each, norm + weights["output.weight"].nbytes)


@pytest.fixture
def llama_log(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What llama.cpp says while it makes a context."""

    def log(path: Path, n_ctx: int, **options: Any) -> str:
        capsys.readouterr()
        with Model(path) as model:
            load(verbose=True)
            try:
                Context(model, n_ctx, threads=1, **options).close()
            finally:
                load()
        return capsys.readouterr().err

    return log


def mib(log: str, what: str) -> float:
    return sum(float(size) for size in re.findall(rf"\w {what} buffer size = +([\d.]+) MiB", log))


@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("n_ctx", [256, 4096, 5000])
def test_a_cache_takes_what_llama_takes(
    tmp_path: Path, llama_log: Callable[..., str], n_ctx: int, kv_type: str
) -> None:
    """A context of 5,000 tokens has 5,120 cells; the others were not counted."""
    heads = {"qwen2.attention.head_count": 2, "qwen2.attention.head_count_kv": 1}  # of 32 values: blocks of q8_0
    path = tiny_gguf.write(tmp_path / "wide.gguf", heads)
    said = mib(llama_log(path, n_ctx, kv_type=kv_type), "KV")
    found = kv_bytes(gguf_file.read(path), n_ctx, kv_type) * tiny_gguf.LAYERS / MIB
    assert said == pytest.approx(found, abs=0.006), "two decimals are logged"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimates_are_enough_for_every_family(tmp_path: Path, llama_log: Callable[..., str], family: str) -> None:
    name = next(name for name, case in CASES.items() if case["family"] == family)
    path = tmp_path / "x.gguf"
    convert(build_small(tmp_path / "checkpoint", name), {"F16": path})
    file = gguf_file.read(path)
    layers, output = weight_bytes(file)
    others = sum(t.nbytes for t in file.tensors if t.name.startswith(("token_embd.", "rope_")))
    has_output = any(tensor.name == "output.weight" for tensor in file.tensors)
    assert sum(layers) + output + (others if has_output else 0) == sum(tensor.nbytes for tensor in file.tensors)
    for flash_attn in (True, False):
        log = llama_log(path, 2048, flash_attn=flash_attn)
        assert 0 < mib(log, "KV") <= kv_bytes(file, 2048, "f16") * len(layers) / MIB + 0.005
        assert 0 < mib(log, "compute") <= compute_bytes(file, 2048, flash_attn=flash_attn) / MIB


def test_a_long_context_needs_more(tiny_path: Path) -> None:
    file = gguf_file.read(tiny_path)
    flash, plain = ([compute_bytes(file, n, flash_attn=on) for n in (512, 32768)] for on in (True, False))
    assert flash[0] < flash[1] < plain[1] and plain[0] < plain[1]
    assert kv_bytes(file, 4096, "q4_0") < kv_bytes(file, 4096, "q8_0") < kv_bytes(file, 4096, "f16")
    assert kv_bytes(file, 4096, "nonsense") == kv_bytes(file, 4096, "f32"), "Context refuses it in words"


# --- what the machine says

CPU, ACCELERATOR = 0, 3


def fake_devices(
    monkeypatch: pytest.MonkeyPatch, devices: list[tuple[int, int, int]], offload_there: bool = True
) -> Any:
    """A library whose devices have these kinds, and free and total bytes; a device is its number plus 100."""

    def memory(device: int, free: Any, total: Any) -> None:
        _, free._obj.value, total._obj.value = devices[device - 100]

    functions = {
        ("ggml", "ggml_backend_dev_count"): lambda: len(devices),
        ("ggml", "ggml_backend_dev_get"): lambda i: i + 100,
        ("ggml-base", "ggml_backend_dev_type"): lambda device: devices[device - 100][0],
        ("ggml-base", "ggml_backend_dev_memory"): memory,
    }
    library = SimpleNamespace(llama_supports_gpu_offload=lambda: offload_there)
    monkeypatch.setattr(offload, "load", lambda: library)
    monkeypatch.setattr(offload, "ggml_function", lambda file, name, *types: functions[file, name])
    available = machine.Memory(total=9000, available=7777, limit=None)
    monkeypatch.setattr(machine, "memory", lambda: available)
    return library


GPU, IGPU = offload.GPU, offload.INTEGRATED_GPU


@pytest.mark.parametrize(
    ("devices", "free"),
    [
        ([(CPU, 5, 9)], []),
        ([(CPU, 5, 9), (ACCELERATOR, 6, 9)], []),
        ([(GPU, 10, 90), (CPU, 5, 9), (GPU, 20, 90)], [10, 20]),
        ([(IGPU, 30, 90), (GPU, 10, 90), (CPU, 5, 9)], [10]),
        ([(IGPU, 30, 90), (CPU, 5, 9)], [30]),
        ([(GPU, 0, 90), (GPU, 20, 90)], [0, 20]),
        ([(GPU, 0, 0), (CPU, 5, 9)], [7777]),
        ([(IGPU, 0, 0), (CPU, 5, 9)], [7777]),
        ([], []),
    ],
)
def test_free_memory(monkeypatch: pytest.MonkeyPatch, devices: list[tuple[int, int, int]], free: list[int]) -> None:
    fake_devices(monkeypatch, devices)
    assert free_memory() == free


def test_a_library_without_offloading_is_not_asked_for_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_devices(monkeypatch, [(GPU, 10, 90)], offload_there=False)
    assert free_memory() == []


def test_the_real_library_knows_its_cpu() -> None:
    """The copy of ggml that llama.cpp works with is asked: another one would know no devices, or free other memory."""
    c = load()
    get = offload.ggml_function("ggml", "ggml_backend_dev_get", offload.ctypes.c_void_p, offload.ctypes.c_size_t)
    count = offload.ggml_function("ggml", "ggml_backend_dev_count", offload.ctypes.c_size_t)
    kind = offload.ggml_function("ggml-base", "ggml_backend_dev_type", offload.ctypes.c_int, offload.ctypes.c_void_p)
    cpus = [get(i) for i in range(count()) if kind(get(i)) == CPU]
    assert len(cpus) == 1
    assert 0 < device_memory(c, cpus[0]) <= machine.memory().total * 4  # a limit on us is not one on the machine


no_gpu = pytest.mark.skipif(load().llama_supports_gpu_offload(), reason="a build for GPUs")


@no_gpu
def test_a_build_for_the_cpu_has_no_gpus(tiny_path: Path) -> None:
    assert free_memory() == []
    assert auto_offload(tiny_path, 512)[0] == 0


# --- all together


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def have(*free: int) -> None:
        monkeypatch.setattr(offload, "free_memory", lambda: list(free))

    return have


def test_all_layers_fit_to_the_byte(tiny_path: Path, gpus: Callable[..., None]) -> None:
    file = gguf_file.read(tiny_path)
    layers, output = weight_bytes(file)
    needed = sum(layers) + output + 2 * kv_bytes(file, 512, "q8_0") + compute_bytes(file, 512, flash_attn=True) + MARGIN
    gpus(needed)
    assert auto_offload(tiny_path, 512, "q8_0")[0] == 3
    assert auto_offload(tiny_path, 512, "f16")[0] < 3
    assert auto_offload(tiny_path, 512, "q8_0", flash_attn=True)[0] == 3
    gpus(needed - 1)
    assert auto_offload(tiny_path, 512, "q8_0")[0] == 2


def test_the_main_gpu_is_the_only_one(tiny_path: Path, gpus: Callable[..., None]) -> None:
    gpus(0, 1 << 40)
    assert [auto_offload(tiny_path, 512, main_gpu=gpu)[0] for gpu in (0, 1, 2, -1)] == [0, 3, 0, 0]
    assert auto_offload(tiny_path, 512, tensor_split=(0, 1)) == (3, (0, 1))
    assert auto_offload(tiny_path, 512, tensor_split=(1,))[0] == 0


def test_a_small_gpu_beside_a_large_one_is_not_overfull(tiny_path: Path, gpus: Callable[..., None]) -> None:
    """llama.cpp's split, by free memory, gave the small one a layer that did not fit beside its margin."""
    gpus(MARGIN * 5 // 4, MARGIN * 3)
    layers, split = auto_offload(tiny_path, 512)
    assert layers == 3 and split is not None and split[0] < split[1] / 4


def test_a_damaged_file_is_refused_before_it_is_measured(tmp_path: Path, gpus: Callable[..., None]) -> None:
    gpus(1 << 40)
    path = tiny_gguf.write(tmp_path / "x.gguf", {"qwen2.block_count": 2**30})
    with pytest.raises(GgufError, match="block_count"):
        auto_offload(path, 512)


def test_the_engine_asks_for_its_whole_cache(
    tiny_path: Path, gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All slots together, in the type that is used; and a build for the CPU goes on where layers are sent to a GPU."""
    asked: list[dict[str, Any]] = []

    def spy(path: Path, **options: Any) -> Model:
        asked.append(options)
        return Model(path, **options)

    monkeypatch.setattr("edge.api.Model", spy)
    file = gguf_file.read(tiny_path)
    layers, output = weight_bytes(file)
    needed = sum(layers) + output + 2 * kv_bytes(file, 4 * 256, "f16") + MARGIN
    gpus(needed + compute_bytes(file, 4 * 256, flash_attn=True, outputs=4))
    with Engine(tiny_path, ctx=256, slots=4) as llm:
        assert len(llm.generate(["a"], max_tokens=2, temperature=0, ignore_eos=True)[0].tokens) == 2
    with contextlib.closing(Engine(tiny_path, ctx=256, slots=5)):
        pass
    with contextlib.closing(Engine(tiny_path, ctx=256, gpu_layers=1)):
        pass
    four, five, given = (one["gpu_layers"] for one in asked)
    assert four == 3 > five and given == 1
