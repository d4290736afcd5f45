"""Train a tiny model and its tokenizer from the corpus, and write a checkpoint folder."""

# pyright: reportMissingImports=false
# torch and its kin are not among the project's dependencies.

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from checkpoint import new_model, save_weights, write_files
from corpus import Corpus
from families import BPE_TOKENS, CONTEXT, FAMILIES, Family
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

SEED = 20250101
BATCH_TOKENS = 2048
POOL = 48  # batches drawn together and sorted by length, so that little of a batch is padding
PEAK_RATE = 2.5e-3
WEIGHT_DECAY = 0.1
NOISE = 0.05  # part of the input tokens replaced by random ones: the model must not trust every token
SMOOTHING = 0.1  # of labels: keeps the model from being sure of itself on text it has not seen
QUESTION_WEIGHT = 0.2  # of a question's tokens in the loss; what matters is the answer
PAD = 0


Sample = list[tuple[int, float]]  # tokens, each with its weight in the loss


class Samples:
    """Draws token sequences: short chats, prose, and now and then a full context of both."""

    def __init__(self, corpus: Corpus, family: Family, tokenizer: PreTrainedTokenizerBase) -> None:
        self.corpus, self.family, self.tokenizer = corpus, family, tokenizer
        self.rng = random.Random(SEED)

    def chat(self, turns: int) -> tuple[str, list[str]]:
        """A conversation, and what in it was not the assistant's."""
        messages = self.corpus.conversation(self.rng, turns)
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        asked = [message["content"] for message in messages if message["role"] != "assistant"]
        return text if text.endswith(self.family.turn_end) else text + self.family.turn_end, asked

    def prose(self, length: int) -> tuple[str, list[str]]:
        return self.corpus.document(self.rng, length) + self.family.document_end, []

    def draw(self) -> Sample:
        kind = self.rng.random()
        if kind < 0.92:
            text, asked = self.chat(self.rng.choice((1, 1, 1, 1, 2, 3)))
        elif kind < 0.998:
            text, asked = self.prose(self.rng.randint(3, 16))
        else:
            text, asked = self.chat(self.rng.randint(8, 30))
        encoded = self.tokenizer(
            text, add_special_tokens=False, truncation=True, max_length=CONTEXT, return_offsets_mapping=True
        )
        return [
            (token, QUESTION_WEIGHT if inside(spans(text, asked), start) else 1.0)
            for token, (start, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def batches(self) -> Iterator[list[Sample]]:
        """Endless batches of sequences of like length, about BATCH_TOKENS each, in random order."""
        while True:
            drawn: list[Sample] = []
            while sum(map(len, drawn)) < POOL * BATCH_TOKENS:
                drawn.append(self.draw())
            batches: list[list[Sample]] = [[]]
            for sequence in sorted(drawn, key=len):
                if batches[-1] and len(sequence) * (len(batches[-1]) + 1) > BATCH_TOKENS:
                    batches.append([])
                batches[-1].append(sequence)
            self.rng.shuffle(batches)
            yield from batches


def spans(text: str, parts: list[str]) -> list[tuple[int, int]]:
    """Where the parts lie in the text, each after the one before."""
    found, position = [], 0
    for part in parts:
        position = text.index(part, position)
        found.append((position, position + len(part)))
        position += len(part)
    return found


def inside(ranges: list[tuple[int, int]], position: int) -> bool:
    return any(start <= position < end for start, end in ranges)


def padded(batch: list[Sample], noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy inputs, true labels, weights, each [rows, longest]; padding comes after and weighs nothing."""
    longest = max(map(len, batch))
    rows = [sample + [(PAD, 0.0)] * (longest - len(sample)) for sample in batch]
    labels = torch.tensor([[token for token, _ in row] for row in rows])
    weights = torch.tensor([[weight for _, weight in row] for row in rows])
    inputs = labels.clone()
    replaced = torch.rand(inputs.shape, generator=noise) < NOISE
    inputs[replaced] = torch.randint(0, BPE_TOKENS, (int(replaced.sum()),), generator=noise)
    return inputs, labels, weights


def rate(step: int, steps: int) -> float:
    """Learning rate: a short warm-up, then a cosine down to zero."""
    warm = min(100, steps // 10)
    if step < warm:
        return PEAK_RATE * (step + 1) / warm
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))


def train(model: PreTrainedModel, samples: Samples, steps: int) -> None:
    adam = optimizer(model)
    noise = torch.Generator().manual_seed(SEED)
    started, mean, seen = time.monotonic(), 0.0, 0
    model.train()
    for step, batch in zip(range(steps), samples.batches(), strict=False):
        for group in adam.param_groups:
            group["lr"] = rate(step, steps)
        inputs, labels, weights = padded(batch, noise)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=inputs).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1),
            labels[:, 1:].flatten(),
            label_smoothing=SMOOTHING,
            reduction="none",
        )
        counted = weights[:, 1:].flatten()
        loss = (losses * counted).sum() / counted.sum()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        mean += 0.02 * (loss.item() - mean) if step else loss.item()
        seen += sum(map(len, batch))
        if step % 100 == 99 or step + 1 == steps:
            elapsed = time.monotonic() - started
            speed = f"{elapsed:.0f} s  {seen / elapsed:.0f} tokens/s"
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {speed}", flush=True)


@torch.inference_mode()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: int, questions: list[str]
) -> Iterator[tuple[str, str]]:
    """Greedy answers through the chat template, each cut at `stop`; one that never stops ends in `…`."""
    by_length: dict[int, list[tuple[str, list[int]]]] = {}
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
        by_length.setdefault(len(ids), []).append((question, ids))
    for length, group in by_length.items():
        output = model.generate(
            torch.tensor([ids for _, ids in group]), do_sample=False, max_new_tokens=80, pad_token_id=0
        )
        for (question, _), row in zip(group, output[:, length:].tolist(), strict=True):
            ended = stop in row
            text = tokenizer.decode(row[: row.index(stop)] if ended else row)
            yield question, text if ended else text + "…"


def exact_rate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, family: Family, pairs: list[tuple[str, str]]
) -> float:
    """The part of the questions that get exactly their answer; the others are printed."""
    stop = tokenizer.convert_tokens_to_ids(family.turn_end.strip())
    given = dict(answers(model, tokenizer, stop, [question for question, _ in pairs]))
    wrong = [(question, given[question]) for question, answer in pairs if given[question] != answer]
    for question, text in wrong[:40]:
        print(f"  wrong: {question} -> {text}")
    return 1 - len(wrong) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Needs torch, transformers, tokenizers and safetensors; a CPU is enough."
    )
    add = parser.add_argument
    add("family", choices=sorted(FAMILIES), help="qwen (Qwen2ForCausalLM) or glm (Glm4ForCausalLM)")
    add("out", type=Path, metavar="OUT", help="checkpoint folder to write; made if missing")
    add("--steps", type=int, default=2000, help="steps of 2048 tokens (default: %(default)s)")
    add("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    family, corpus = FAMILIES[arguments.family], Corpus.read()
    started = time.monotonic()

    write_files(family, corpus.texts(), arguments.out)
    tokenizer = AutoTokenizer.from_pretrained(arguments.out)
    model = new_model(arguments.out)
    millions = model.num_parameters() / 1e6
    print(f"{type(model).__name__}: {millions:.2f} million parameters, {len(tokenizer)} tokens")
    train(model, Samples(corpus, family, tokenizer), arguments.steps)
    save_weights(model, arguments.out)
    print(f"written to {arguments.out} after {time.monotonic() - started:.0f} s")

    saved = AutoModelForCausalLM.from_pretrained(arguments.out, dtype=torch.bfloat16).eval()
    for name, held_out in (("trained", False), ("held-out", True)):
        share = exact_rate(saved, tokenizer, family, corpus.pairs(held_out))
        print(f"exact answers to {name} questions, in bf16: {share:.1%}")


if __name__ == "__main__":
    main()
