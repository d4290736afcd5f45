"""Contexts beyond the trained length: which models, by how much, and that llama.cpp computes what a file would say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from convert.pipeline import convert
from edge.cli.main import cli
from edge.llama import yarn
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.yarn import ContextLengthError, Documented, RopeChange, rope_for
from tests.edge import tiny_gguf

TINY_CONTEXT = 2048  # what both embedded models were trained for
TINY_ROWS = tuple(Documented(arch, TINY_CONTEXT, TINY_CONTEXT, 4 * TINY_CONTEXT) for arch in ("qwen2", "glm4"))


def metadata(arch: str, trained: int, width: Any = 0, **more: Any) -> dict[str, Any]:
    keys = {"context_length": trained, "feed_forward_length": width, **more}
    return {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in keys.items()}


QWEN25_7B = metadata("qwen2", 32768, 18944)
QWEN3_8B = metadata("qwen3", 40960, 12288)


@pytest.mark.parametrize(
    ("model", "n_ctx", "want"),
    [
        (QWEN25_7B, 32768, None),
        (QWEN25_7B, 65536, RopeChange(32768, 2.0)),
        (QWEN25_7B, 131072, RopeChange(32768, 4.0)),
        (QWEN3_8B, 40960, None),
        (QWEN3_8B, 49152, RopeChange(32768, 1.5)),
        (metadata("qwen3moe", 40960, 6144), 131072, RopeChange(32768, 4.0)),
        (metadata("qwen3next", 262144, 5120), 524288, RopeChange(262144, 2.0)),
        (metadata("qwen35", 262144, 17408), 1_010_000, RopeChange(262144, 1_010_000 / 262144)),
        (metadata("qwen35moe", 262144), 393216, RopeChange(262144, 1.5)),
        (metadata("glm4", 32768, 13696), 65536, RopeChange(32768, 2.0)),
        (metadata("glm4moe", 131072), 131072, None),
    ],
)
def test_the_smallest_factor_that_suffices(model: dict[str, Any], n_ctx: int, want: RopeChange | None) -> None:
    assert rope_for(model, n_ctx) == want


YARN_INSIDE = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32768}


@pytest.mark.parametrize(
    ("model", "n_ctx", "says"),
    [
        (QWEN25_7B, 131073, ("131073", "32768", "documented up to 131072")),
        (QWEN3_8B, 200000, ("200000", "40960", "documented up to 131072")),
        (metadata("qwen35", 262144, 12288), 1_010_001, ("1010001", "262144", "1010000")),
        (metadata("qwen2", 32768, 4864), 32769, ("32769", "32768", "document no YaRN")),  # Qwen2.5 0.5B
        (metadata("qwen2", 32768, 27392), 65536, ("65536", "document no YaRN")),  # Qwen1.5 32B
        (metadata("qwen2", 4096, 18944), 8192, ("4096", "document no YaRN")),  # Qwen2.5 Math 7B
        (metadata("qwen3", 262144, 9728), 300000, ("262144", "document no YaRN")),  # Qwen3 4B 2507
        (metadata("qwen35", 262144, 3584), 300000, ("262144", "document no YaRN")),  # Qwen3.5 0.8B
        (metadata("glm4moe", 131072), 131073, ("131073", "131072", "document no YaRN")),
        (metadata("qwen2", 32768, np.array([18944, 18944])), 65536, ("document no YaRN",)),
        (
            {**QWEN25_7B, **{f"qwen2.{key}": value for key, value in YARN_INSIDE.items()}},
            65536,
            ("yarn scaling already",),
        ),
        ({**QWEN25_7B, "qwen2.rope.scaling.type": "linear"}, 65536, ("linear scaling already",)),
        ({"general.architecture": "qwen2"}, 8, ("does not say",)),
        (metadata("qwen2", 0), 8, ("does not say",)),
    ],
)
def test_lengths_that_nobody_vouches_for(model: dict[str, Any], n_ctx: int, says: Sequence[str]) -> None:
    with pytest.raises(ContextLengthError) as caught:
        rope_for(model, n_ctx)
    assert all(part in str(caught.value) for part in says) and caught.value.hint


def test_a_file_with_yarn_inside_needs_no_change_up_to_its_length() -> None:
    inside = {f"qwen2.{key}": value for key, value in YARN_INSIDE.items()}
    assert rope_for(metadata("qwen2", 131072, 18944) | inside, 131072) is None


@pytest.fixture(scope="module", params=["tiny-qwen", "tiny-glm"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Model]]:
    """An embedded model as it is, and converted with YaRN in its config.json: by 4 over 256 tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    plain = Path(str(files("edge.models") / request.param))
    scaled = folder / "scaled"
    shutil.copytree(plain, scaled)
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    (scaled / "config.json").write_text(json.dumps(config), encoding="utf-8")
    convert(plain, {"F16": folder / "plain.gguf"})
    convert(scaled, {"F16": folder / "scaled.gguf"})
    with Model(folder / "plain.gguf") as as_it_is, Model(folder / "scaled.gguf") as by_metadata:
        yield as_it_is, by_metadata


def all_logits(model: Model, tokens: Sequence[int], rope: RopeChange | None = None) -> np.ndarray:
    """Logits after every token, [len(tokens), n_vocab]."""
    n = len(tokens)
    with Context(model, n, n_batch=n, n_outputs_max=n, threads=1, rope=rope) as context, Batch(n) as batch:
        for pos, token in enumerate(tokens):
            batch.add(token, pos, want_logits=True)
        context.decode(batch)
        return np.stack([context.logits(row) for row in range(n)])


def test_what_is_computed_is_what_a_file_with_yarn_in_its_metadata_says(pair: tuple[Model, Model]) -> None:
    plain, scaled = pair
    tokens = np.random.default_rng(1).integers(0, 256, 320).tolist()  # beyond the 256, within the 1024
    want = all_logits(scaled, tokens)
    got = all_logits(plain, tokens, RopeChange(256, 4.0))
    np.testing.assert_array_equal(got, want)
    for other in (None, RopeChange(256, 3.0), RopeChange(512, 4.0)):
        assert np.abs(all_logits(plain, tokens, other) - want).max() > 0.01


def test_a_file_that_says_it_has_no_scaling_gets_it_all_the_same(tiny_path: Path, tmp_path: Path) -> None:
    """llama.cpp ignores the factor where the type of scaling is none, as some files have it."""
    none = tiny_gguf.write(tmp_path / "none.gguf", {"qwen2.rope.scaling.type": "none"})
    rope = RopeChange(256, 4.0)
    with Model(tiny_path) as silent, Model(none) as saying:
        tokens = list(range(100))
        np.testing.assert_array_equal(all_logits(saying, tokens, rope), all_logits(silent, tokens, rope))
        assert (all_logits(saying, tokens, rope) != all_logits(saying, tokens)).any()


def test_positions_beyond_the_trained_length_are_decoded(
    pair: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yarn, "DOCUMENTED", TINY_ROWS)
    plain, _ = pair
    n_ctx = TINY_CONTEXT + 256
    rope = rope_for(plain.metadata, n_ctx)
    assert rope == RopeChange(TINY_CONTEXT, n_ctx / TINY_CONTEXT)
    with Context(plain, n_ctx, threads=1, rope=rope) as context, Batch(512) as batch:
        for start in range(0, n_ctx, 256):
            batch.clear()
            for pos in range(start, start + 256):
                batch.add(65 + pos % 26, pos, want_logits=pos == start + 255)
            context.decode(batch)
            assert np.isfinite(context.logits(255)).all()
        assert context.memory_last(0) == n_ctx - 1


def test_run_says_that_yarn_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--ctx beyond the trained length was refused for every model."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path))
    command = ["run", "tiny-qwen:F16", "你好", "--temp", "0", "-n", "4"]
    refused = CliRunner().invoke(cli, [*command, "--ctx", "3072"])
    assert refused.exit_code == 1 and "document no YaRN" in refused.stderr
    monkeypatch.setattr(yarn, "DOCUMENTED", TINY_ROWS)
    for ctx, says in (("3072", "YaRN by 1.50: --ctx 3072 is beyond the trained 2048"), ("2048", "")):
        answered = CliRunner().invoke(cli, [*command, "--ctx", ctx])
        assert answered.exit_code == 0 and answered.stdout
        assert [line for line in answered.stderr.splitlines() if "YaRN" in line] == ([says] if says else [])
    assert "YaRN" not in CliRunner().invoke(cli, [*command, "-q", "--ctx", "3072"]).stderr


def test_every_row_is_one_that_a_context_can_follow() -> None:
    for row in yarn.DOCUMENTED:
        assert row.original <= row.trained < row.longest <= 4 * row.original
        made = metadata(row.arch, row.trained, next(iter(row.feed_forward), 0))
        assert [other for other in yarn.DOCUMENTED if other.covers(made)] == [row]
        longest = rope_for(made, row.longest)
        assert longest is not None and longest.factor <= 4
