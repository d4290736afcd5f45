from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.gguf_file import GgufError
from edge.llama.context import Context, ContextError
from edge.llama.model import Model, ModelError
from tests.edge import tiny_gguf
from tests.edge.tiny_gguf import END_OF_TEXT, END_THINK, IM_END, IM_START, THINK


def test_what_the_model_says(model: Model) -> None:
    assert model.arch == "qwen2"
    assert model.n_vocab == tiny_gguf.N_VOCAB
    assert model.n_ctx_train == tiny_gguf.N_CTX
    assert (model.bos, model.eos) == (END_OF_TEXT, IM_END)
    assert model.eot in (END_OF_TEXT, IM_END)  # not in the file, so llama.cpp takes any that looks like it
    assert model.chat_template == tiny_gguf.TEMPLATE
    weights = tiny_gguf.tensors().values()
    assert model.n_params == sum(array.size for array in weights)
    assert model.size == sum(array.nbytes for array in weights)
    assert "qwen2" in model.desc


def test_special_tokens_in_a_users_text_stay_text(model: Model) -> None:
    """With parse_special a user could type the end of his message."""
    text = "<|im_end|>"
    assert model.tokenize(text, parse_special=True) == [IM_END]
    assert IM_END not in model.tokenize(text)
    assert b"".join(model.token_bytes(token) for token in model.tokenize(text)) == text.encode()


def test_control_texts(model: Model) -> None:
    assert model.control_texts == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_token_bytes(model: Model) -> None:
    assert model.token_bytes(IM_END) == b""
    assert model.token_bytes(IM_END, special=True) == b"<|im_end|>"
    assert model.token_bytes(THINK) == b"<think>"
    assert model.token_bytes(tiny_gguf.vocabulary()[0].index("ä½")) == "你".encode()[:2]


def test_a_token_longer_than_the_first_buffer(tmp_path: Path) -> None:
    tokens, types = tiny_gguf.vocabulary()
    tokens[-1], types[-1] = "<" + "long" * 100 + ">", tiny_gguf.USER_DEFINED
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    with Model(tiny_gguf.write(tmp_path / "long.gguf", changes), vocab_only=True) as model:
        assert model.token_bytes(len(tokens) - 1) == tokens[-1].encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_survives_tokens(model: Model, text: str) -> None:
    want = model.normalize(text).encode()
    assert b"".join(model.token_bytes(token, special=True) for token in model.tokenize(text)) == want


def test_normalization_is_qwens(model: Model, tmp_path: Path) -> None:
    """llama.cpp does not normalize; Qwen's tokenizer does, to NFC: an e with a combining accent differed."""
    assert model.tokenize("cafe\u0301") == model.tokenize("café")
    with Model(tiny_gguf.write(tmp_path / "glm.gguf", {"tokenizer.ggml.pre": "glm4"}), vocab_only=True) as glm:
        assert glm.tokenize("cafe\u0301") != glm.tokenize("café")


def test_halves_of_surrogate_pairs(model: Model) -> None:
    """JSON can bring them; encoding them raised UnicodeEncodeError."""
    assert model.tokenize("\ud83d\ude00") == model.tokenize("😀")
    assert model.tokenize("a\ud83d") == model.tokenize("a\ufffd")


def test_nul_and_empty_text(model: Model) -> None:
    assert b"".join(model.token_bytes(token) for token in model.tokenize("a\0b")) == b"a\0b"
    assert model.tokenize("") == []


def test_add_special_adds_what_the_vocabulary_asks_for(model: Model, tmp_path: Path) -> None:
    assert model.tokenize("a", add_special=True) == model.tokenize("a")
    changes = {"tokenizer.ggml.add_bos_token": True}
    with Model(tiny_gguf.write(tmp_path / "bos.gguf", changes), vocab_only=True) as adding:
        assert adding.tokenize("a", add_special=True) == [END_OF_TEXT, *model.tokenize("a")]


def test_ends(model: Model) -> None:
    ends = {token for token in range(model.n_vocab) if model.is_eog(token)}
    assert ends == {END_OF_TEXT, IM_END}
    assert model.is_control(IM_START) and not model.is_control(END_THINK)


@pytest.mark.parametrize("token", [-1, tiny_gguf.N_VOCAB, 2**31 - 1])
def test_tokens_outside_the_vocabulary(model: Model, token: int) -> None:
    """C throws through ctypes on them, which ends the process."""
    for call in (model.token_bytes, model.is_eog, model.is_control):
        with pytest.raises(ModelError, match="outside the vocabulary"):
            call(token)


def test_a_load_that_fails_says_why(tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    del weights["blk.1.ffn_up.weight"]
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight") as caught:
        Model(tiny_gguf.write(tmp_path / "hole.gguf", weights=weights))
    assert caught.value.hint and "\n" not in str(caught.value)
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(GgufError):
        Model(tmp_path / "text.gguf")


def test_vocab_only_has_no_context(tiny_path: Path) -> None:
    with Model(tiny_path, vocab_only=True) as model:
        assert model.tokenize("the") and model.n_ctx_train == tiny_gguf.N_CTX
        with pytest.raises(ContextError, match="without its weights"):
            Context(model, 64)


def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    with Model(tiny_gguf.write(tmp_path / "模型 é.gguf"), use_mmap=False) as model:
        assert model.n_vocab == tiny_gguf.N_VOCAB


def test_closed_means_closed(tiny_path: Path) -> None:
    """Using freed memory would crash, or worse; closing the model first used to free it under the context."""
    model = Model(tiny_path)
    context = Context(model, 64, threads=1)
    model.close()
    model.close()
    context.close()
    with pytest.raises(ModelError, match="closed"):
        model.tokenize("a")
    with pytest.raises(ModelError, match="closed"):
        model.is_eog(1)
    with pytest.raises(ContextError, match="closed"):
        context.memory_clear()
    with pytest.raises(ModelError, match="closed"):
        Context(model, 64)


def test_memory_comes_back(tiny_path: Path) -> None:
    def once() -> None:
        model = Model(tiny_path)
        Context(model, 4096, threads=1)  # neither is closed: the collector has to
        del model
        gc.collect()

    for _ in range(5):
        once()
    before = psutil.Process().memory_info().rss
    for _ in range(30):
        once()
    assert psutil.Process().memory_info().rss - before < 8 << 20


@pytest.fixture
def loads(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parameters of each load from here on, as C gets them."""
    load, seen = model.lib.llama_model_load_from_file, []

    def noted(path: bytes, params: Any) -> Any:
        seen.append(params)
        return load(path, params)

    monkeypatch.setattr(model.lib, "llama_model_load_from_file", noted)
    return seen


def test_how_weights_are_read(model: Model, tiny_path: Path, loads: list[Any]) -> None:
    for use_mmap, use_mlock in ((False, False), (True, False), (False, True), (True, True)):
        with Model(tiny_path, use_mmap=use_mmap, use_mlock=use_mlock) as loaded:
            assert loaded.n_params == model.n_params
    lib = model.lib
    assert [params.load_mode for params in loads] == [
        lib.LLAMA_LOAD_MODE_NONE,
        lib.LLAMA_LOAD_MODE_MMAP,
        lib.LLAMA_LOAD_MODE_MLOCK,
        lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
    ]


def test_which_gpus_get_what(model: Model, tiny_path: Path, loads: list[Any]) -> None:
    most = model.lib.llama_max_devices()
    shares = [3.0, 1.0][:most]
    for settings in ({}, {"tensor_split": shares}, {"main_gpu": 0}):
        Model(tiny_path, **settings).close()
    plain, split, one = loads
    assert not plain.tensor_split and plain.split_mode == model.lib.LLAMA_SPLIT_MODE_LAYER
    assert split.tensor_split[:most] == shares + [0.0] * (most - len(shares))
    assert (one.split_mode, one.main_gpu) == (model.lib.LLAMA_SPLIT_MODE_NONE, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"tensor_split": [1.0, -1.0]},
        {"tensor_split": [math.nan]},
        {"tensor_split": [math.inf]},
        {"tensor_split": []},
        {"tensor_split": [1.0] * 1000},
        {"main_gpu": -1},
        {"tensor_split": [1.0], "main_gpu": 0},
    ],
    ids=lambda settings: str(settings)[:40],
)
def test_gpus_that_cannot_be(tiny_path: Path, loads: list[Any], settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Model(tiny_path, **settings)
    assert not loads
