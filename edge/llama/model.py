"""A model file in memory: its vocabulary, its metadata, its weights."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import re
import unicodedata
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert import gguf_file
from convert.errors import EdgeError
from edge.gguf_sane import check_sane
from edge.llama.library import last_log, load, repacks

if TYPE_CHECKING:
    from edge.llama.context import Context

NO_TOKEN = -1
PIECE = 64  # bytes; longer tokens are rare
PieceBuffer = ctypes.c_char * PIECE  # ctypes forgets an array type that nobody holds, and makes it anew each time
NFC_TOKENIZERS = frozenset({"qwen2", "qwen35", "deepseek-r1-qwen"})
"""Values of ``tokenizer.ggml.pre`` whose tokenizer normalizes text to NFC first. GLM's does not."""


class ModelError(EdgeError):
    """llama.cpp cannot load the model, or a token or text is outside what the model knows."""


class Model:
    """A GGUF loaded by llama.cpp. A context manager; contexts still open are closed before it.

    The file is checked by ``convert.gguf_file`` before C sees it.

    ``gpu_layers``: how many layers go to a GPU, -1 for all. ``vocab_only``: no weights, for
    tokenizing alone. ``use_mmap=False`` reads the weights into memory of our own. ``use_mlock`` keeps
    them from being swapped out; where the system forbids that, llama.cpp goes on without.
    ``tensor_split``: the share of each GPU, such as (3, 1); by default what is free on each.
    ``main_gpu``: the one GPU, counted from 0, that takes all layers sent to a GPU, instead of a split.

    Raises ``GgufError`` if the file is damaged, ``ModelError`` if llama.cpp refuses it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        gpu_layers: int = 0,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        tensor_split: Sequence[float] | None = None,
        main_gpu: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.file = gguf_file.read(self.path)
        check_sane(self.file)
        self.lib = lib = load()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.vocab_only = vocab_only
        params.use_extra_bufts = repacks(lib)
        params.load_mode = {
            (False, False): lib.LLAMA_LOAD_MODE_NONE,
            (True, False): lib.LLAMA_LOAD_MODE_MMAP,
            (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
            (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
        }[use_mmap, use_mlock]
        _choose_gpus(lib, params, tensor_split, main_gpu)
        last_log()  # what went wrong before is another matter
        pointer = lib.llama_model_load_from_file(os.fsencode(self.path), params)
        if not pointer:
            raise ModelError(
                f"llama.cpp cannot load {self.path.name}: {first_reason(last_log())}",
                "check the file with `edge show`, or convert the model again",
            )
        self.pointer: Any = pointer
        self.vocab: Any = lib.llama_model_get_vocab(pointer)
        self.vocab_only = vocab_only
        self.n_vocab: int = lib.llama_vocab_n_tokens(self.vocab)
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self._free = weakref.finalize(self, lib.llama_model_free, pointer)

    # --- what the file says

    @property
    def metadata(self) -> dict[str, Any]:
        return self.file.metadata

    @property
    def arch(self) -> str:
        return self.metadata["general.architecture"]

    @property
    def n_ctx_train(self) -> int:
        """The longest context, in tokens, that the model was trained for; 0 if the file does not say."""
        return int(self.metadata.get(f"{self.arch}.context_length", 0))

    @property
    def chat_template(self) -> str | None:
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def desc(self) -> str:
        """llama.cpp's own short description, such as ``qwen2 1B Q4_K - Medium``."""
        buffer = ctypes.create_string_buffer(256)
        self.lib.llama_model_desc(self._open(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        return self.lib.llama_model_size(self._open())

    @property
    def n_params(self) -> int:
        return self.lib.llama_model_n_params(self._open())

    @property
    def n_embd(self) -> int:
        """Numbers in a hidden state."""
        return self.lib.llama_model_n_embd(self._open())

    # --- tokens

    @property
    def bos(self) -> int | None:
        return self._special(self.lib.llama_vocab_bos)

    @property
    def eos(self) -> int | None:
        return self._special(self.lib.llama_vocab_eos)

    @property
    def eot(self) -> int | None:
        return self._special(self.lib.llama_vocab_eot)

    @functools.cached_property
    def fim(self) -> tuple[int, int, int] | None:
        """The tokens before a beginning, before an end, and before the middle that is to be filled in; None if the
        model was not trained for it."""
        lib = self.lib
        found = [
            self._special(get) for get in (lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid)
        ]
        prefix, suffix, middle = found
        return None if prefix is None or suffix is None or middle is None else (prefix, suffix, middle)

    def is_eog(self, token: int) -> bool:
        """True if the model says by ``token`` that its answer is complete."""
        self.check_token(token)
        return self.lib.llama_vocab_is_eog(self.vocab, token)

    @functools.cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens by which the model says that its answer is complete.

        llama.cpp also takes ordinary tokens for it whose text looks like one, as ``</s>``, which is a tag of HTML in
        the vocabulary of Qwen.
        """
        ordinary = 1  # LLAMA_TOKEN_TYPE_NORMAL
        types = self.metadata.get("tokenizer.ggml.token_type", [])
        named = {self.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")}
        special = [token for token, kind in enumerate(types) if kind != ordinary or token in named]
        return frozenset(token for token in special if self.is_eog(token))

    @functools.cached_property
    def can_cut(self) -> bool:
        """Whether the cache can forget the end of a sequence; recurrent layers keep only their last state."""
        self._open()
        return not (self.lib.llama_model_is_recurrent(self.pointer) or self.lib.llama_model_is_hybrid(self.pointer))

    def is_control(self, token: int) -> bool:
        self.check_token(token)
        return self.lib.llama_vocab_is_control(self.vocab, token)

    @functools.cached_property
    def control_texts(self) -> list[str]:
        """Texts that ``tokenize`` turns into control tokens with ``parse_special``, and only then."""
        self._open()
        special = self.lib.LLAMA_TOKEN_ATTR_CONTROL | self.lib.LLAMA_TOKEN_ATTR_UNKNOWN
        # The attributes are asked from C, because it makes control tokens of some texts by itself.
        attr, vocab, tokens = self.lib.llama_vocab_get_attr, self.vocab, self.metadata["tokenizer.ggml.tokens"]
        return [text for token, text in enumerate(tokens) if text and attr(vocab, token) & special]

    def tokenize(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        """Token ids of ``text``.

        With ``parse_special`` the texts of special tokens (``<|im_end|>``) become those tokens: for
        template markup only, never for text that a user wrote. With ``add_special`` the tokens are put
        in front and behind that the vocabulary asks for (bos, eos).
        """
        self._open()
        data = self.normalize(text).encode("utf-8")
        # A token is at least a byte; the rest is room for bos, eos and a leading space.
        capacity = len(data) + 8
        for _ in range(2):
            buffer = (self.lib.llama_token * capacity)()
            n = self.lib.llama_tokenize(self.vocab, data, len(data), buffer, capacity, add_special, parse_special)
            if n >= 0:
                if NO_TOKEN in buffer[:n]:
                    raise ModelError("the vocabulary has no token for part of the text", "convert the model again")
                return buffer[:n]
            capacity = -n
        raise ModelError(f"llama.cpp cannot tokenize a text of {len(data)} bytes", "send a shorter text")

    def normalize(self, text: str) -> str:
        """``text`` as this model's tokenizer was trained to see it, and always valid Unicode.

        The one place for what llama.cpp leaves out: Qwen's tokenizers normalize to NFC.
        """
        if not text.isascii():
            # JSON may bring halves of surrogate pairs: join the pairs, replace what is left alone.
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            if self.metadata.get("tokenizer.ggml.pre") in NFC_TOKENIZERS:
                text = unicodedata.normalize("NFC", text)
        return text

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """The bytes that ``token`` stands for, perhaps part of a character.

        Control tokens have no bytes unless ``special`` is set, which renders their names.
        """
        self.check_token(token)
        capacity, buffer = PIECE, PieceBuffer()
        for _ in range(2):
            n = self.lib.llama_token_to_piece(self.vocab, token, buffer, capacity, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            capacity = -n
            buffer = ctypes.create_string_buffer(capacity)
        raise ModelError(f"llama.cpp cannot render token {token}")

    # --- life

    def close(self) -> None:
        """Close open contexts, then free the weights; harmless when repeated."""
        for context in list(self._contexts):
            context.close()
        self._free()

    def adopt(self, context: Context) -> None:
        """Remember ``context``, so that it is closed before the model is."""
        self._contexts.add(context)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        """The C pointer; C would read freed memory where this raises."""
        if not self._free.alive:
            raise ModelError(f"the model {self.path.name} is closed")
        return self.pointer

    def _special(self, getter: Any) -> int | None:
        self._open()
        token = getter(self.vocab)
        return None if token == NO_TOKEN else token

    def check_token(self, token: int) -> None:
        """Raises ModelError for an id outside the vocabulary."""
        # C throws through ctypes on an id outside the vocabulary, which ends the process.
        self._open()
        if not 0 <= token < self.n_vocab:
            raise ModelError(f"token {token} is outside the vocabulary of {self.n_vocab}")


def _choose_gpus(lib: Any, params: Any, tensor_split: Sequence[float] | None, main_gpu: int | None) -> None:
    if tensor_split is not None:
        most = lib.llama_max_devices()
        if main_gpu is not None:
            raise ModelError("a model goes to one main GPU or is split, not both", "leave one out")
        if not 0 < len(tensor_split) <= most or not all(0 <= share < math.inf for share in tensor_split):
            raise ModelError(
                f"{list(tensor_split)} is no split over GPUs", f"give 1 to {most} shares, none of them negative"
            )
        params.tensor_split = (ctypes.c_float * most)(*tensor_split)  # llama.cpp reads that many, and copies them
    if main_gpu is not None:
        if main_gpu < 0:
            raise ModelError(f"there is no GPU {main_gpu}", "GPUs are counted from 0")
        params.split_mode, params.main_gpu = lib.LLAMA_SPLIT_MODE_NONE, main_gpu


def first_reason(log: str) -> str:
    """The first complaint of llama.cpp's log, where the cause is, without the names of C functions."""
    return re.sub(r"^(\w+: (error loading model: )?)+", "", log.split("; ")[0]) or "no reason given"
