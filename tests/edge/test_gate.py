"""The gate: a good file passes, each way of being wrong is found and named, a crash of the child is a failure."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.pipeline import convert
from edge import gate, gate_checks, machine
from edge.errors import GateError
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from tests.checkpoints import edit_json, read_json, write_json
from tests.edge import tiny_gguf


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the embedded model, to be spoilt."""
    return shutil.copytree(str(files("edge.models") / "tiny-qwen"), tmp_path / "tiny-qwen")


def gguf_of(checkpoint: Path) -> Path:
    path = checkpoint.parent / "x.gguf"
    convert(checkpoint, {"Q8_0": path})
    return path


def spoil_tensor(checkpoint: Path, name: str, change: Any) -> None:
    """Apply ``change`` to the tensor's 16-bit words in place."""
    path = checkpoint / "model.safetensors"
    raw = bytearray(path.read_bytes())
    length = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:length])[name]["data_offsets"]
    words = np.frombuffer(bytes(raw[length + begin : length + end]), "<u2").copy()
    raw[length + begin : length + end] = change(words).astype("<u2").tobytes()
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-glm"])
def test_embedded_models_pass(name: str, tmp_path: Path) -> None:
    checkpoint = Path(str(files("edge.models") / name))
    convert(checkpoint, {"Q4_0": tmp_path / "x.gguf"})
    begun: list[tuple[str, int, int]] = []
    found = gate.run_gate(tmp_path / "x.gguf", checkpoint, lambda *step: begun.append(step))
    assert found["passed"] is True and found["end_tokens"] >= 2 and found["texts_compared"] >= 17
    assert [step[0] for step in begun] == list(gate.CHECKS)


def refused(checkpoint: Path, gguf: Path | None = None) -> str:
    with pytest.raises(GateError) as caught:
        gate.run_gate(gguf or gguf_of(checkpoint), checkpoint)
    return caught.value.message


def test_other_token_ids(checkpoint: Path) -> None:
    gguf = gguf_of(checkpoint)
    content = read_json(checkpoint / "tokenizer.json")
    content["model"]["merges"] = content["model"]["merges"][::-1]
    write_json(checkpoint / "tokenizer.json", content)
    assert refused(checkpoint, gguf).startswith("x.gguf: the check 'token ids' failed")


def test_end_token_that_does_not_end(checkpoint: Path) -> None:
    gguf = gguf_of(checkpoint)
    edit_json(checkpoint / "generation_config.json", eos_token_id=[5])
    assert "token 5 ends generation in generation_config.json" in refused(checkpoint, gguf)


def test_ordinary_token_that_ends_generation(checkpoint: Path) -> None:
    """No config named an end; llama.cpp's own default, an ordinary token, broke answers off, and the gate passed it."""
    gguf = gguf_of(checkpoint)
    raw = gguf.read_bytes()
    assert raw.count(b"tokenizer.ggml.eos_token_id") == 1
    gguf.write_bytes(raw.replace(b"tokenizer.ggml.eos_token_id", b"tokenizer.ggml.xxx_token_id"))
    assert "the ordinary token 11 (',') ends generation; no config calls it an end" in refused(checkpoint, gguf)
    edit_json(checkpoint / "generation_config.json", eos_token_id=[11])
    gate.run_gate(gguf, checkpoint)


@pytest.mark.parametrize("words", [5, [5], ["x"], [None], {"a": [1]}, [[True]], [["x"]]])
def test_stop_words_of_any_form(words: Any) -> None:
    """``len()`` of a number: the check ended in a traceback."""
    assert gate_checks.named_ends({"stop_words_ids": words, "eos_token_id": True}) == []
    assert gate_checks.named_ends({"stop_words_ids": [[7], [8, 9]], "eos_token_id": 3}) == [3, 7]


@pytest.mark.parametrize("template", ["{% for x in %}", "{{ undefined.attribute }}", "{{ ''.__class__.__mro__ }}"])
def test_broken_or_hostile_template(checkpoint: Path, template: str) -> None:
    edit_json(checkpoint / "tokenizer_config.json", chat_template=template)
    assert refused(checkpoint).startswith("x.gguf: the check 'chat template' failed")


def test_template_that_loses_the_question(checkpoint: Path) -> None:
    edit_json(checkpoint / "tokenizer_config.json", chat_template="<|im_start|>assistant\n")
    assert "does not hold the question" in refused(checkpoint)


def test_weights_in_the_wrong_places(checkpoint: Path) -> None:
    """A fine-tune that converts without error and answers nothing: what the gate is for."""
    rng = np.random.default_rng(1)
    spoil_tensor(checkpoint, "model.embed_tokens.weight", lambda w: rng.permutation(w.reshape(-1, 256)).reshape(-1))
    assert refused(checkpoint).startswith("x.gguf: the check 'perplexity en' failed: perplexity")


def test_tokenizer_of_another_model(checkpoint: Path) -> None:
    """Ids that mean other texts give the same figures; the message spoke of the weights alone."""
    content = read_json(checkpoint / "tokenizer.json")
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = dict(zip(vocab, list(vocab.values())[::-1], strict=True))
    write_json(checkpoint / "tokenizer.json", content)
    assert refused(checkpoint).endswith("or tokenizer or config belong to another model")


def test_logits_that_are_no_numbers(checkpoint: Path) -> None:
    """Weights that are finite but overflow in the graph."""
    spoil_tensor(checkpoint, "model.norm.weight", lambda w: np.full_like(w, 0x7F7F))
    assert "finite" in refused(checkpoint)


@pytest.mark.parametrize(
    ("texts", "says"), [([], "is empty"), ([b" ", b"\n"], "is empty"), ([b"G"] * 8, "over and over")]
)
def test_answers_that_are_none(monkeypatch: pytest.MonkeyPatch, texts: list[bytes], says: str) -> None:
    kinds = sorted(set(texts))
    monkeypatch.setattr(gate_checks, "greedy_answer", lambda *_: [kinds.index(text) for text in texts])
    monkeypatch.setattr(gate_checks, "prompt_tokens", lambda *_: [1])
    model: Any = type("Model", (), {"chat_template": "x", "token_bytes": staticmethod(kinds.__getitem__)})
    with pytest.raises(gate_checks.CheckFailed, match=says):
        gate_checks.check_answer(model, None)  # type: ignore[arg-type]


# --- the plain loop, which the engine's tests compare with


PROMPT = [100, 120, 140, 160]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(tiny_gguf.write(tmp_path_factory.mktemp("gate") / "tiny.gguf")) as model:
        yield model


def greedy_anew(context: Context, prompt: list[int], n: int) -> list[int]:
    """Decodes everything anew for each token, and takes the best."""
    tokens = list(prompt)
    for _ in range(n):
        context.memory_clear()
        with Batch(len(tokens)) as batch:
            for pos, token in enumerate(tokens):
                batch.add(token, pos, want_logits=pos == len(tokens) - 1)
            context.decode(batch)
        tokens.append(int(np.argmax(context.logits(len(tokens) - 1))))
    return tokens[len(prompt) :]


def test_the_answer_is_the_best_token_each_time(random_model: Model) -> None:
    with Context(random_model, 256, threads=1) as context:
        want = greedy_anew(context, PROMPT, 12)
        assert not random_model.end_tokens & set(want)
        assert gate_checks.greedy_answer(random_model, context, PROMPT, 12) == want
        assert gate_checks.greedy_answer(random_model, context, PROMPT, 12) == want, "one context answers again"


def test_a_prompt_in_chunks_gives_the_same_answer(random_model: Model) -> None:
    prompt = [i % 250 for i in range(100)]
    with Context(random_model, 256, threads=1) as context:
        want = gate_checks.greedy_answer(random_model, context, prompt, 8)
    with Context(random_model, 256, n_batch=32, n_ubatch=32, threads=1) as narrow:
        assert gate_checks.greedy_answer(random_model, narrow, prompt, 8) == want


def test_an_end_token_ends_the_answer(random_model: Model, tmp_path: Path) -> None:
    with Context(random_model, 256, threads=1) as context:
        want = greedy_anew(context, PROMPT, 3)
    path = tiny_gguf.write(tmp_path / "end.gguf", {"tokenizer.ggml.eos_token_id": want[2]})
    with Model(path) as model, Context(model, 256, threads=1) as context:
        assert gate_checks.greedy_answer(model, context, PROMPT, 50) == want[:2]


def test_a_prompt_and_an_answer_too_long_for_the_context(random_model: Model) -> None:
    """A template that renders a book must not end the process in C."""
    with Context(random_model, 256, threads=1) as context:
        assert len(gate_checks.greedy_answer(random_model, context, [100] * 250, 50)) <= 6
        with pytest.raises(gate_checks.CheckFailed, match="256 tokens, the context 256"):
            gate_checks.greedy_answer(random_model, context, [100] * 256, 50)


def test_file_that_does_not_load(checkpoint: Path) -> None:
    gguf = gguf_of(checkpoint)
    gguf.write_bytes(gguf.read_bytes()[:5000])
    assert refused(checkpoint, gguf).startswith("x.gguf: the check 'load' failed")


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_crash_of_the_child_is_a_failure(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp ends the process on some files; the converter must live on and say so."""
    script = checkpoint / "crash.sh"
    script.write_text('#!/bin/sh\necho \'{"begin": "perplexity en"}\'\nkill -SEGV $$\n')
    script.chmod(0o755)
    monkeypatch.setattr(gate.sys, "executable", str(script))
    assert refused(checkpoint) == "x.gguf: the check 'perplexity en' ended badly: llama.cpp crashed (SIGSEGV)"


def test_a_child_that_talks_nonsense_is_a_failure(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = checkpoint / "odd.sh"
    script.write_text("#!/bin/sh\necho nonsense\necho '{\"answer\": 1}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(gate.sys, "executable", str(script))
    assert "ended badly" in refused(checkpoint)


def test_not_run_where_it_does_not_fit(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = machine.Memory(total=10**8, available=10**8, limit=None)
    monkeypatch.setattr(machine, "memory", lambda: small)
    found = gate.run_gate(gguf_of(checkpoint), checkpoint)
    assert found == {"passed": None, "needs_gb": 0.6}
