"""What the gate tries, in a process of its own: ``python -m edge.gate_checks GGUF CHECKPOINT``."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from gguf import TokenType

from convert.errors import EdgeError
from edge.gate import CHECKS
from edge.gate_reference import Reference, open_reference, read_json
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampler, Sampling
from edge.prompt import prompt_tokens

CONTEXT = 1024  # tokens
PERPLEXITY_TOKENS = 256  # of each language: a 7B model on two cores takes half a minute for them
SMALL_VOCABULARY = 10_000
ANSWER_TOKENS = 24
MOST_SPECIALS = 300  # special tokens whose ids are compared
QUESTION = "你好"
# A turn of GLM ends where another's begins, and its tool call where the result is to come.
FAMILY_ENDS = {"<|im_end|>", "<|endoftext|>", "<|user|>", "<|observation|>"}
# What tokenizers get wrong first: contractions, digits, spaces, scripts, accents in two pieces, emoji, code.
CORPUS = (
    "Hello, world! I've told you: it's 3 o'clock, we'll DON'T they'Re.",
    "1 22 333 4444 55555 3.14159 2026-11-21 1,000,000",
    " leading, trailing  \n\n\n three lines\r\n\ttabs\t\t and    spaces   ",
    "你好，世界！今天天气怎么样？我想在apple工作1314151天～",
    "人工智能（AI）是研究、开发用于模拟、延伸和扩展人的智能的理论。",
    "こんにちは、世界。カタカナとひらがな、漢字も混ぜて書きます。ﾊﾝｶｸ",
    "안녕하세요 Привет Γειά σου שלום مرحبا नमस्ते",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m \u1100\u1161\u11a8 — café naïve",
    "😀 🚀🚀 👩‍👩‍👧‍👦 🏳️‍🌈 ✅ ❤️ 🇨🇳",
    "def f(x: int) -> str:\n    return f'{x!r}' if x >= 0 else None  # ok\n\n\tif (a && b) { c++; }\n",
    "people stop at sophists' geopolitics; sop eop <0x0A> ▁",
    "<tag attr='1'>&amp;</tag> https://example.com/?q=a%20b&c=d_e-f.html ```py\nprint()\n```",
    "''''''```````\"\"\"\"......!!!!!!?????? ======= ~~~ \u00a0\u2003\u200b\ufeff \x00\x7f",
)


class CheckFailed(Exception):
    """A check found the file wrong; the text says how."""


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message, ensure_ascii=False), flush=True)


def check_end_tokens(model: Model, checkpoint: Path) -> int:
    """Every token that the checkpoint's configs or its family call the end must end generation. Returns how many.

    No ordinary token may, unless the configs say so: llama.cpp takes token 11 where a file names none. (That it ends
    at some texts, ``</s>`` of Qwen's vocabulary among them, whatever a file says, is not the file's fault.)
    """
    controls = set(model.control_texts)
    ends = {
        id: "its family"
        for id, text in enumerate(model.metadata["tokenizer.ggml.tokens"])
        if text in FAMILY_ENDS and text in controls
    }
    for name in ("config.json", "generation_config.json"):
        path = checkpoint / name
        config = read_json(path) if path.is_file() else {}
        ends |= dict.fromkeys(named_ends(config), name)
    for id, name in ends.items():
        if not model.is_eog(id):
            raise CheckFailed(f"token {id} ends generation in {name}, but not in the file")
    keys = [model.metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eot", "eom")]
    types = model.metadata["tokenizer.ggml.token_type"]
    for id in {model.eos, *keys} - {None, *ends}:
        if types[id] == TokenType.NORMAL:
            text = model.metadata["tokenizer.ggml.tokens"][id]
            raise CheckFailed(f"the ordinary token {id} ({text[:40]!r}) ends generation; no config calls it an end")
    return len(ends)


def named_ends(config: dict[str, Any]) -> list[int]:
    """Ids that a config calls the end, also in its part for text; sequences of several ids are left out."""
    text = config.get("text_config")
    words = config.get("stop_words_ids")
    words = [word[0] for word in words if isinstance(word, list) and len(word) == 1] if isinstance(words, list) else []
    values = [config.get("eos_token_id"), words, text.get("eos_token_id") if isinstance(text, dict) else None]
    return [id for value in values for id in (value if isinstance(value, list) else [value]) if type(id) is int]


def check_token_ids(model: Model, reference: Reference) -> int:
    """llama.cpp must give the reference library's ids. Returns how many texts were compared."""
    texts = [(text, False) for text in (*CORPUS, bundled_text("en"), bundled_text("zh"))]
    specials = reference.specials  # by id: a fine-tune's own come last
    if len(specials) > MOST_SPECIALS:
        specials = [*specials[: MOST_SPECIALS // 2], *specials[-MOST_SPECIALS // 2 :]]
    texts += [(f"before{content}after {content}\n", True) for content in specials]
    for text, special in texts:
        want = reference.encode_markup(text) if special else reference.encode(text)
        got = model.tokenize(text, parse_special=special)
        if got != want:
            at = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
            raise CheckFailed(
                f"{text[:40]!r} gives ids {got[at : at + 5]} at position {at}, "
                f"not {want[at : at + 5]} as in {reference.library}"
            )
    return len(texts)


def check_template(model: Model, reference: Reference) -> str:
    """The chat template must render one question, and a conversation. Returns what was tried."""
    if model.chat_template is None:
        return "none in the checkpoint"
    prefix = reference.prefix
    for messages in (
        [{"role": "user", "content": QUESTION}],
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": QUESTION},
        ],
    ):
        tokens = prompt_tokens(model, messages)
        text = b"".join(model.token_bytes(token, special=True) for token in tokens).decode("utf-8", "replace")
        if unicodedata.normalize("NFC", QUESTION) not in text:
            raise CheckFailed("the rendered prompt does not hold the question")
        if tokens[: len(prefix)] != prefix or any(tokens.count(id) > 1 for id in prefix):
            raise CheckFailed(f"the rendered prompt does not begin with the ids {prefix}, once")
    return "renders"


def check_perplexity(model: Model, context: Context, language: str, most: int = PERPLEXITY_TOKENS) -> float:
    """Finite logits, and a perplexity far below chance on bundled text, ``most`` tokens of it. Returns it."""
    tokens = model.tokenize(bundled_text(language))[:most]
    context.memory_clear()
    with Batch(len(tokens)) as batch:
        for position, token in enumerate(tokens):
            batch.add(token, position, want_logits=True)
        context.decode(batch)
        losses = []
        for position, token in enumerate(tokens[1:]):
            logits = context.logits(position).astype(np.float64)
            if not np.isfinite(logits).all():
                raise CheckFailed(f"logits after token {position} of the {language} text are not finite")
            top = logits.max()
            losses.append(top + math.log(np.exp(logits - top).sum()) - logits[token])
    perplexity = math.exp(sum(losses) / len(losses))
    limit = model.n_vocab * (0.5 if model.n_vocab < SMALL_VOCABULARY else 0.05)
    if perplexity > limit:
        raise CheckFailed(
            f"perplexity {perplexity:.0f} is above {limit:.0f}; the weights are not in their places, "
            "or tokenizer or config belong to another model"
        )
    return perplexity


def check_answer(model: Model, context: Context) -> str:
    """A greedy answer must hold something, and not one token over and over. Returns the answer."""
    if model.chat_template is None:
        prompt = model.tokenize(bundled_text("en"))[:64]
    else:
        prompt = prompt_tokens(model, [{"role": "user", "content": QUESTION}])
    tokens = greedy_answer(model, context, prompt, ANSWER_TOKENS)
    text = text_of(model, tokens)
    if not text.strip():
        raise CheckFailed(f"the answer to {QUESTION!r} is empty")
    if len(tokens) >= 8 and len(set(tokens)) == 1:
        raise CheckFailed(f"the answer to {QUESTION!r} is one token over and over: {text[:40]!r}")
    return text


def greedy_answer(model: Model, context: Context, prompt: Sequence[int], most: int) -> list[int]:
    """The likeliest tokens after ``prompt``, up to the end token, to ``most`` of them, or until the context is full.

    A plain loop: in a process where two threads have computed, both are slow, and the checks above use this one.
    Raises CheckFailed, DecodeError.
    """
    if len(prompt) >= context.n_ctx_seq:
        raise CheckFailed(f"the prompt has {len(prompt)} tokens, the context {context.n_ctx_seq}")
    most = min(most, context.n_ctx_seq - len(prompt))
    context.memory_clear()
    answer: list[int] = []
    coming, n_past = list(prompt), 0
    with Batch(context.n_batch) as batch, Sampler(model, Sampling(temperature=0)) as sampler:
        while len(answer) < most:
            for start in range(0, len(coming), context.n_batch):
                batch.clear()
                for token in coming[start : start + context.n_batch]:
                    n_past += 1
                    batch.add(token, n_past - 1, want_logits=n_past == len(prompt) + len(answer))
                context.decode(batch)
            if not np.isfinite(context.logits(len(batch) - 1)).all():
                raise CheckFailed(f"logits after {n_past} tokens of a question and its answer are not finite")
            token = sampler.sample(context, len(batch) - 1)
            if token in model.end_tokens:
                break
            answer.append(token)
            coming = [token]
    return answer


def text_of(model: Model, tokens: Sequence[int]) -> str:
    return b"".join(map(model.token_bytes, tokens)).decode("utf-8", "replace")


def bundled_text(language: str) -> str:
    return (files("edge") / "gate_texts" / f"{language}.txt").read_text(encoding="utf-8")


def run_checks(gguf: Path, checkpoint: Path) -> dict[str, Any]:
    """All checks in the order of ``gate.CHECKS``, as a result for the report. Raises nothing."""
    current = CHECKS[0]

    def begin(name: str) -> None:
        nonlocal current
        current = name
        say({"begin": name})

    try:
        begin("load")
        with Model(gguf) as model:
            found: dict[str, Any] = {"passed": True}
            begin("end tokens")
            found["end_tokens"] = check_end_tokens(model, checkpoint)
            begin("token ids")
            reference = open_reference(checkpoint)
            found["texts_compared"] = check_token_ids(model, reference)
            begin("chat template")
            found["chat_template"] = check_template(model, reference)
            n = PERPLEXITY_TOKENS
            with Context(model, CONTEXT, n_batch=max(n, 512), n_outputs_max=n) as context:
                for language in ("en", "zh"):
                    begin(f"perplexity {language}")
                    found[f"perplexity_{language}"] = round(check_perplexity(model, context, language), 2)
                begin("answer")
                found["answer"] = check_answer(model, context)
            return found
    except (CheckFailed, EdgeError) as error:
        return {"failed": current, "why": str(error)}


def main() -> int:
    result = run_checks(Path(sys.argv[1]), Path(sys.argv[2]))
    say(result)
    return 1 if "failed" in result else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.exit(main())
