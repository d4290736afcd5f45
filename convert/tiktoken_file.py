"""Vocabularies in tiktoken's form: text, a line ``base64-of-the-token rank`` for each token of a byte-level BPE.

``qwen.tiktoken`` of the first Qwen models, ``tokenizer.model`` of glm-4-9b. The file has no merges: tiktoken joins
whatever pair makes the token of the lowest rank. llama.cpp wants the pairs, so they are found here.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from convert.errors import CheckpointError, UnsupportedError
from convert.vocabulary import AddedToken, Vocabulary, by_position, byte_alphabet, token_list, with_known

LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})")
LONGEST = 256  # bytes of a token; real ones have at most 128. Bounds the search for pairs
MAX_MERGES = 2_000_000  # glm-4-9b has 318,088

QWEN_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))
FIRST_QWEN_SPECIALS = (
    *QWEN_SPECIALS[:3],
    "<R>",
    "<S>",
    "<X>",
    "<mask>",
    "<sep>",
    *(f"<extra_{i}>" for i in range(200)),
)
GLM4_SPECIALS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
)

Ranks = Mapping[bytes, int]


def is_tiktoken(data: bytes) -> bool:
    """Whether a file is of this form, told from its first line."""
    return LINE.fullmatch(data[:4096].split(b"\n", 1)[0].rstrip()) is not None


def read_qwen(data: bytes, specials: Sequence[str], size: int, file: str) -> Vocabulary:
    """``qwen.tiktoken``; ``specials`` take the ids behind the ranks. Raises CheckpointError, UnsupportedError."""
    ranks = read_ranks(data, file)
    return vocabulary("qwen2", ranks, last_merges(ranks, file), by_position(specials, len(ranks)), size, file)


def read_glm4(data: bytes, added: Iterable[AddedToken], size: int, file: str) -> Vocabulary:
    """The ``tokenizer.model`` of glm-4-9b; ``added`` (of tokenizer_config.json) go before the places known by heart.

    Not every token there can be reached by merging tokens of lower ranks. tiktoken finds those as whole pieces of
    text, as llama.cpp does under the name glm4. Raises CheckpointError, UnsupportedError.
    """
    ranks = read_ranks(data, file)
    tokens = {token.id: token for token in added}
    if (first := min(tokens, default=len(ranks))) > len(ranks):
        raise CheckpointError(
            f"{file} has {len(ranks)} tokens, but tokenizer_config.json puts {tokens[first].text!r} at {first}", AGAIN
        )
    known = by_position(GLM4_SPECIALS, len(ranks))
    return vocabulary("glm4", ranks, all_merges(ranks), with_known(tokens.values(), known), size, file)


def vocabulary(
    pre: str, ranks: Ranks, merges: Iterable[tuple[bytes, bytes]], added: Iterable[AddedToken], size: int, file: str
) -> Vocabulary:
    """Tokens and merges as text, each byte as its printable stand-in."""
    alphabet = dict(enumerate(byte_alphabet()))
    names = {token: token.decode("latin-1").translate(alphabet) for token in ranks}
    added = list(added)
    texts, types = token_list({names[token]: rank for token, rank in ranks.items()}, added, size, file)
    lines = [f"{names[left]} {names[right]}" for left, right in itertools.islice(merges, MAX_MERGES + 1)]
    if len(lines) > MAX_MERGES:
        raise UnsupportedError(f"{file} has tokens that more than {MAX_MERGES} pairs make", "no real vocabulary has")
    return Vocabulary("gpt2", pre, texts, types, {token.text: token.id for token in added}, merges=lines)


def read_ranks(data: bytes, file: str) -> Ranks:
    """Token -> rank, in the order of the ranks 0, 1, 2 ... Raises CheckpointError unless it is whole and sane."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        found = LINE.fullmatch(line.rstrip())
        try:
            token = base64.b64decode(found[1], validate=True) if found else b""
        except ValueError:
            token = b""
        if not found or not token or len(token) > LONGEST:
            raise CheckpointError(f"{file}, line {number}: {line[:40]!r} is not a token in base64 and its rank", AGAIN)
        if token in ranks:
            raise CheckpointError(f"{file}, line {number}: the token {token[:40]!r} is there twice", AGAIN)
        ranks[token] = int(found[2])
    ranks = dict(sorted(ranks.items(), key=lambda item: item[1]))
    for place, rank in enumerate(ranks.values()):
        if rank != place:
            raise CheckpointError(f"{file}: the rank {min(rank, place)} is missing or there twice", AGAIN)
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise CheckpointError(f"{file}: no token for the byte {missing[0]}", AGAIN)
    return ranks


AGAIN = "the file is incomplete or damaged: fetch it again"


def last_merges(ranks: Ranks, file: str) -> Iterator[tuple[bytes, bytes]]:
    """For each token the one pair that makes it: the last step of joining its bytes by lower ranks alone.

    Where every token has such a pair, merging by them gives tiktoken's ids: inside a text, too, the bytes of a
    token are joined in just this order. Raises UnsupportedError where one has none.
    """
    for token, rank in ranks.items():
        if len(token) > 1:
            parts = join(ranks, token, rank)
            if len(parts) != 2:
                raise UnsupportedError(f"{file}: the token {token[:40]!r} cannot be merged from tokens of lower ranks")
            yield parts[0], parts[1]


def join(ranks: Ranks, token: bytes, limit: int) -> list[bytes]:
    """Byte pair encoding of ``token`` by ranks below ``limit``; of equal ranks the leftmost pair first."""
    parts = [token[i : i + 1] for i in range(len(token))]
    pairs = [ranks.get(token[i : i + 2], limit) for i in range(len(token) - 1)]
    while pairs and (least := min(pairs)) < limit:
        i = pairs.index(least)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del pairs[i]
        for j in (i - 1, i):
            if 0 <= j < len(pairs):
                pairs[j] = ranks.get(parts[j] + parts[j + 1], limit)
    return parts


def all_merges(ranks: Ranks) -> Iterator[tuple[bytes, bytes]]:
    """Every pair of tokens that makes a token, by its rank, then by the ranks of the two.

    The order in which transformers converts such a file. Pairs that no joining reaches do no harm.
    """
    for token in ranks:
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        halves = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        yield from sorted(halves, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
