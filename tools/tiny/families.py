"""What tiny-qwen and tiny-glm are: shape, tokenizer, chat template and files, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

BPE_TOKENS = 2400  # 256 bytes and their merges; special tokens come after
PADDED_VOCAB = 2432  # rows of the embedding: a gap after the last token, as real checkpoints have
CONTEXT = 2048

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = (
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{ '<|im_start|>assistant\\n' }}\n"
    "{%- endif -%}\n"
)

GLM4_CHAT = (
    "{{- '[gMASK]<sop>' -}}\n"
    "{%- for message in messages -%}\n"
    "{{ '<|' ~ message.role ~ '|>\\n' ~ message.content }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{ '<|assistant|>\\n' }}\n"
    "{%- endif -%}\n"
)


@dataclass(frozen=True)
class Family:
    """One architecture. `ids` in the callables maps a special token's text to its id."""

    split: str
    normalizer: Json | None
    ignore_merges: bool
    specials: tuple[str, ...]
    document_end: str
    turn_end: str  # closes an answer; when a following turn opens with it, it is written once
    chat_template: str
    config: Callable[[dict[str, int]], Json]
    generation_config: Callable[[dict[str, int]], Json]
    tokenizer_config: Json


def _shared_config() -> Json:
    return {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.06,
        "intermediate_size": 768,
        "max_position_embeddings": CONTEXT,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rope_theta": 10000.0,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": PADDED_VOCAB,
    }


def _qwen_config(ids: dict[str, int]) -> Json:
    return _shared_config() | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "max_window_layers": 4,
        "rms_norm_eps": 1e-06,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    }


def _glm_config(ids: dict[str, int]) -> Json:
    return _shared_config() | {
        "architectures": ["Glm4ForCausalLM"],
        "model_type": "glm4",
        "attention_bias": True,
        "eos_token_id": [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]],
        "head_dim": 64,
        "pad_token_id": ids["<|endoftext|>"],
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
    }


GLM_SPECIALS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)

QWEN = Family(
    split=SPLIT.replace("DIGITS", r"\p{N}"),
    normalizer={"type": "NFC"},
    ignore_merges=False,
    specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    document_end="<|endoftext|>",
    turn_end="<|im_end|>\n",
    chat_template=CHATML,
    config=_qwen_config,
    generation_config=lambda ids: {
        "bos_token_id": ids["<|endoftext|>"],
        "do_sample": False,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    },
    tokenizer_config={
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONTEXT,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    },
)

GLM = Family(
    split=SPLIT.replace("DIGITS", r"\p{N}{1,3}"),
    normalizer=None,
    ignore_merges=True,
    specials=GLM_SPECIALS,
    document_end="<|endoftext|>",
    turn_end="<|user|>",
    chat_template=GLM4_CHAT,
    config=_glm_config,
    generation_config=lambda ids: {
        "do_sample": False,
        "eos_token_id": [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    },
    tokenizer_config={
        "additional_special_tokens": list(GLM_SPECIALS),
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
)

FAMILIES = {"qwen": QWEN, "glm": GLM}
