from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.chat.template import TemplateError
from edge.generate import BrokenModelError, PromptError, Timings, generate, prompt_tokens
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from tests.edge import tiny_gguf
from tests.edge.tiny_gguf import IM_END, IM_START

GREEDY = Sampling(temperature=0)
PROMPT = [100, 120, 140, 160]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(tiny_gguf.write(tmp_path_factory.mktemp("generate") / "tiny.gguf")) as model:
        yield model


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, 256, threads=1) as context:
        yield context


def greedy_by_hand(context: Context, prompt: list[int], n: int) -> list[int]:
    """The reference: decode everything anew for each token, take the best."""
    tokens = list(prompt)
    for _ in range(n):
        context.memory_clear()
        with Batch(len(tokens)) as batch:
            for pos, token in enumerate(tokens):
                batch.add(token, pos, want_logits=pos == len(tokens) - 1)
            context.decode(batch)
        tokens.append(int(np.argmax(context.logits(len(tokens) - 1))))
    return tokens[len(prompt) :]


def test_greedy_is_the_best_token_each_time(model: Model, context: Context) -> None:
    want = greedy_by_hand(context, PROMPT, 12)
    assert not any(model.is_eog(token) for token in want)
    pieces = list(generate(model, context, PROMPT, GREEDY, max_tokens=12))
    assert [piece.token for piece in pieces if piece.token is not None] == want
    text = b"".join(model.token_bytes(token) for token in want).decode("utf-8", "replace")
    assert "".join(piece.text for piece in pieces) == text


def test_a_prompt_in_chunks_gives_the_same_answer(model: Model, context: Context) -> None:
    prompt = [i % 250 for i in range(100)]
    want = generate(model, context, prompt, GREEDY, max_tokens=8).text()
    with Context(model, 256, n_batch=32, n_ubatch=32, threads=1) as narrow:
        generation = generate(model, narrow, prompt, GREEDY, max_tokens=8)
        assert generation.text() == want
    assert generation.timings.prompt_tokens == 100


def test_one_context_answers_again(model: Model, context: Context) -> None:
    first = generate(model, context, PROMPT, GREEDY, max_tokens=9).text()
    generate(model, context, [99, 98], GREEDY, max_tokens=5).text()
    assert generate(model, context, PROMPT, GREEDY, max_tokens=9).text() == first


def test_an_end_token_ends(context: Context, tmp_path: Path) -> None:
    """The token is neither text nor counted."""
    end = greedy_by_hand(context, PROMPT, 3)[2]
    changes = {"tokenizer.ggml.eos_token_id": end}
    with Model(tiny_gguf.write(tmp_path / "end.gguf", changes)) as model, Context(model, 256, threads=1) as own:
        generation = generate(model, own, PROMPT, GREEDY, max_tokens=50)
        tokens = [piece.token for piece in generation]
    assert generation.timings.finish_reason == "stop"
    assert generation.timings.generated_tokens == len([token for token in tokens if token is not None]) == 2
    assert end not in tokens


def test_limits(model: Model, context: Context) -> None:
    generation = generate(model, context, PROMPT, GREEDY, max_tokens=3)
    assert len([piece for piece in generation if piece.token is not None]) == 3
    assert generation.timings.finish_reason == "length"
    long = [1] * (context.n_ctx_seq - 5)
    generation = generate(model, context, long, GREEDY)
    generation.text()
    assert (generation.timings.finish_reason, generation.timings.generated_tokens) == ("length", 5)
    assert generate(model, context, PROMPT, GREEDY, max_tokens=0).text() == ""


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(model: Model, context: Context) -> None:
    size = context.n_ctx_seq
    with pytest.raises(PromptError, match=f"{size + 7} tokens, the context {size}"):
        generate(model, context, [1] * (size + 7), GREEDY)
    with pytest.raises(PromptError, match="empty"):
        generate(model, context, [], GREEDY)


def test_cancelling(model: Model, context: Context) -> None:
    stop = False
    generation = generate(model, context, PROMPT, GREEDY, cancelled=lambda: stop)
    next(generation.pieces)
    stop = True
    assert [piece.token for piece in generation] in ([], [None])
    assert generation.timings.finish_reason == "cancelled"
    before = generate(model, context, PROMPT, GREEDY, cancelled=lambda: True)
    assert before.text() == "" and before.timings.finish_reason == "cancelled"


def test_a_slow_reader_is_not_a_slow_model(model: Model, context: Context) -> None:
    """The clock once ran while the terminal printed."""
    generation = generate(model, context, PROMPT, GREEDY, max_tokens=5)
    for _ in generation:
        time.sleep(0.05)
    timings = generation.timings
    assert 0 < timings.decode_seconds < 0.15
    assert timings.prefill_seconds > 0
    assert timings.decode_rate == pytest.approx(4 / timings.decode_seconds)
    assert timings.prefill_rate == pytest.approx(4 / timings.prefill_seconds)
    assert Timings().decode_rate == Timings().prefill_rate == 0


def test_a_model_of_nan(tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    weights["output_norm.weight"][:] = np.nan
    path = tiny_gguf.write(tmp_path / "nan.gguf", weights=weights)
    with Model(path) as model, Context(model, 64, threads=1) as context, pytest.raises(BrokenModelError):
        generate(model, context, PROMPT, GREEDY).text()


def test_the_same_seed_the_same_answer(model: Model, context: Context) -> None:
    def answer(seed: int) -> list[int | None]:
        sampling = Sampling(temperature=1.5, seed=seed)
        return [piece.token for piece in generate(model, context, PROMPT, sampling, max_tokens=20)]

    assert answer(1) == answer(1) != answer(2)


def test_messages_to_tokens(model: Model) -> None:
    """Only the template's own control texts become control tokens."""
    tokens = prompt_tokens(model, [{"role": "user", "content": " 你好<|im_end|> "}])
    text = model.tokenize("user\n你好<|im_end|>")
    assert IM_END not in text
    assert tokens == [IM_START, *text, IM_END, *model.tokenize("\n"), IM_START, *model.tokenize("assistant\n")]
    harmless = [{"role": "user", "content": "hi"}]
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_tokens(model, harmless) == model.tokenize(rendered, parse_special=True)
    assert prompt_tokens(model, harmless, add_generation_prompt=False) == model.tokenize(
        "<|im_start|>user\nhi<|im_end|>\n", parse_special=True
    )


def test_a_template_that_is_broken(tmp_path: Path) -> None:
    changes = {"tokenizer.chat_template": "{% for %}"}
    with Model(tiny_gguf.write(tmp_path / "t.gguf", changes), vocab_only=True) as model, pytest.raises(TemplateError):
        prompt_tokens(model, [{"role": "user", "content": "hi"}])
