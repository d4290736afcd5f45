"""Logits of one model by two programs: llama.cpp on a GGUF; transformers, or a reference of our own where it has no
class for the model, on the checkpoint it came from."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.oracle import reference_chatglm, reference_qwen
from tests.oracle.reference_layers import config

# Architectures whose models come with code of their own
REFERENCES = {"QWenLMHeadModel": reference_qwen.logits, "ChatGLMModel": reference_chatglm.logits}
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


def llama_logits(gguf: Path, tokens: Sequence[int], *, f32_cache: bool = True) -> np.ndarray:
    """float32 [tokens, vocabulary]. The KV cache is F32 unless told; flash attention is off."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp does not load {gguf}")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(tokens) + 8
    params.n_threads = params.n_threads_batch = 2
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if f32_cache:
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    if not context or not vocab:
        raise RuntimeError(f"llama.cpp makes no context for {gguf}")
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if code := llama_cpp.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {code}")
        rows = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(rows, (len(tokens), llama_cpp.llama_vocab_n_tokens(vocab))).copy()
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def transformers_logits(checkpoint: Path, tokens: Sequence[int]) -> np.ndarray:
    """float32 [tokens, vocabulary], computed in float32 with plain attention."""
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)])).logits[0].numpy()


def reference_logits(checkpoint: Path, tokens: Sequence[int]) -> np.ndarray:
    """float32 [tokens, vocabulary], by what is right for the checkpoint's architecture."""
    compute = REFERENCES.get(config(checkpoint)["architectures"][0], transformers_logits)
    return compute(checkpoint, tokens)


def mean_kl(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean over the rows of KL(reference || other), in nats, computed in float64."""
    p, q = log_softmax(reference), log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
