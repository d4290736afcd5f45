"""A result of ``edge bench`` as a real run has it, and variants, for the tests of what is made of it."""

from __future__ import annotations

import copy
from typing import Any

HOSTILE = """<script>alert("1")</script>'&[red]\x1b[31m\u202e]]>"""

# bytes, bits a weight, load, memory, pp512, tg128, perplexity en, zh, kl, kl_error, top1
LEVELS = {
    "Q8_0": (531_068_128, 8.51, 0.92, 704_000_000, 86.3, 19.7, 14.62, 21.05, 0.0, 0.0, 1.0),
    "Q5_K_M": (420_086_560, 6.80, 0.85, 593_000_000, 78.8, 21.4, 14.79, 21.32, 0.0121, 0.0011, 0.957),
    "Q4_K_M": (397_807_392, 6.37, 0.81, 571_000_000, 85.1, 22.7, 15.02, 21.88, 0.0334, 0.0024, 0.925),
    "Q4_0": (352_969_504, 5.65, 0.74, 520_000_000, 190.2, 30.1, 15.47, 22.96, 0.0752, 0.0047, 0.883),
}
DEEP = 0.72  # of the speed behind 4,096 tokens
WIDE = {"1": 1.0, "2": 1.27, "4": 1.74, "8": 1.99}
WIDE_DEEP = {"1": 1.0, "2": 1.14, "4": 1.37, "8": 1.31}
CLOCKS = {
    "pp512": "around llama_decode for a prompt of 512 random tokens, until the last one's logits are there",
    "tg128": "around 128 llama_decode of one random token each, until its logits are there; nothing is sampled",
    "ttft": "through the engine: from handing in a prompt of 512 tokens until the first token is drawn; warmed up",
}


def level(name: str) -> dict[str, Any]:
    size, bits, load, memory, pp, tg, english, chinese, kl, kl_error, top1 = LEVELS[name]
    return {
        "level": name,
        "file": f"qwen2.5-coder-0.5b-{name}.gguf",
        "bytes": size,
        "bits_per_weight": bits,
        "weights": 494_032_768,
        "threads": 2,
        "threads_batch": 2,
        "flash_attn": False,
        "rows": 512,
        "load": load,
        "peak_memory": memory,
        "pp512": pp,
        "tg128": tg,
        "decode": 0.97 * tg,
        "ttft": 512 / pp + 0.04,
        "pp512@4096": DEEP * pp,
        "tg128@4096": DEEP * tg,
        "decode@4096": 0.7 * tg,
        "ttft@4096": 512 / (DEEP * pp) + 0.04,
        "spread": {"pp512": [0.98 * pp, 1.01 * pp], "tg128": [0.99 * tg, 1.02 * tg]},
        "widths": {
            "0": {width: times * tg for width, times in WIDE.items()},
            "4096": {width: times * DEEP * tg for width, times in WIDE_DEEP.items()},
        },
        "knee": 8,
        "knee@4096": 4,
        "bandwidth_share": size * tg / 21.3e9,
        "flops_share": 2 * 357_898_112 * pp / 150e9,
        "reference": "Q8_0",
        "perplexity_en": english,
        "perplexity_zh": chinese,
        "kl": kl,
        "kl_error": kl_error,
        "kl_en": kl,
        "kl_zh": kl,
        "top1": top1,
        "top1_error": 0.0 if top1 == 1 else 0.007,
        "tokens": 1022,
        "expected": {"pp512": 0.95 * pp, "tg128": 1.08 * tg},
    }


def sample() -> dict[str, Any]:
    """Four levels, everything measured."""
    result = {
        "edge": "0.1.0",
        "made": "2026-11-29T06:20:00+00:00",
        "machine": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz",
            "arch": "x86_64",
            "os": "Linux",
            "physical": 2,
            "logical": 2,
            "usable": 2,
            "memory": 25_200_000_000,
            "bandwidth": 21.3e9,
            "flops": 150e9,
            "library": "llama-cpp-python 0.3.36 (AVX, AVX2, AVX512, FMA)",
        },
        "model": "qwen2.5-coder-0.5b",
        "settings": {
            "kv_type": "f16",
            "repeats": 3,
            "depths": [0, 4096],
            "widths": [1, 2, 4, 8],
            "gpu_layers": 0,
            "tuned": True,
        },
        "clocks": CLOCKS,
        "levels": [level(name) for name in LEVELS],
    }
    return copy.deepcopy(result)


def sustained(result: dict[str, Any], minutes: int = 10) -> dict[str, Any]:
    """With a sustained run, in which the machine becomes hot and slow."""
    for level in result["levels"]:
        points = []
        for i in range(1, 6 * minutes + 1):
            tired = 1 - 0.25 * min(1.0, i / (3 * minutes))
            points.append(
                {
                    "seconds": 10.0 * i,
                    "tg": level["tg128"] * tired * (1 + 0.01 * (i % 3)),
                    "clock": 2.45e9 * tired,
                    "temperature": 61.0 + 30 * (1 - tired) / 0.25,
                }
            )
        level["sustained"] = points
    return result


def one_level() -> dict[str, Any]:
    """As with one file: there is nothing to compare its quality with, but perplexity is known."""
    result = sample()
    result["levels"] = result["levels"][-1:]
    for key in ("reference", "kl", "kl_error", "kl_en", "kl_zh", "top1", "top1_error", "expected"):
        del result["levels"][0][key]
    return result


def just_begun() -> dict[str, Any]:
    """Nothing measured yet."""
    result = sample()
    result["levels"] = [{"level": name} for name in LEVELS]
    return result


def many_levels(count: int = 17) -> dict[str, Any]:
    """As many levels as there are, close together."""
    result = sample()
    result["levels"] = []
    for i in range(count):
        one = level("Q4_K_M") | {"level": f"Q{i}_K_M", "tg128": 20 + 0.3 * (i % 5), "kl": 0.001 * 1.3**i}
        one["widths"] = {"0": {"1": 20.0, "2": 25.0 + 0.1 * i, "4": 30.0 + 0.1 * i}}
        result["levels"].append(one | {"reference": "Q0_K_M"})
    result["levels"][0] |= {"kl": 0.0, "top1": 1.0}
    return result


def zeros() -> dict[str, Any]:
    """Every figure is 0."""
    result = sample()
    for level in result["levels"]:
        for key, value in level.items():
            if isinstance(value, int | float):
                level[key] = 0
        level["spread"] = {}
        level["widths"] = {depth: dict.fromkeys(rates, 0) for depth, rates in level["widths"].items()}
        level["expected"] = dict.fromkeys(level["expected"], 0)
        level["sustained"] = [{"seconds": 0, "tg": 0, "clock": 0, "temperature": 0}] * 2
    return result


def hostile() -> dict[str, Any]:
    """Every name in it tries to be more than a name."""
    result = sustained(sample())
    result["model"] = result["edge"] = result["made"] = HOSTILE
    result["machine"] = dict.fromkeys(result["machine"], HOSTILE)
    result["settings"] = {**result["settings"], "kv_type": HOSTILE, HOSTILE: HOSTILE}
    result["clocks"] = {"tg128": HOSTILE, HOSTILE: HOSTILE}
    for i, level in enumerate(result["levels"]):
        level |= {"level": f"{i}{HOSTILE}", "file": HOSTILE, "reference": f"0{HOSTILE}"}
        level["expected"][HOSTILE] = 1.0
    return result


def odd() -> dict[str, Any]:
    """What no run writes: wrong types everywhere, which must not stop who renders it."""
    nan, huge = float("nan"), 10**400
    return {
        "levels": [
            None,
            {},
            {"level": 7, "pp512": "fast", "tg128": nan, "kl": huge, "reference": ["x"], "widths": [], "spread": 1},
            {"level": "", "tg128": True, "widths": {"x": {"1": 2}, "0": {"-1": 1, "2": None}}, "sustained": {}},
            {"level": "a", "sustained": [1, {}, {"seconds": "x", "tg": nan}], "expected": []},
        ],
        "machine": [],
        "settings": None,
        "clocks": "none",
    }
