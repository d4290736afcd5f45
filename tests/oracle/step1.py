"""Runs llama.cpp's convert_hf_to_gguf.py in a process of its own: step1.py SOURCE [its arguments].

The script knows a pre-tokenizer by a hash over the ids of one text, so it stops at a vocabulary it has never
seen. For those the answer here follows from the family; every vocabulary it knows is answered by itself.
"""

from __future__ import annotations

import sys
from typing import Any

PRE_TOKENIZERS = {
    **dict.fromkeys(("QWenLMHeadModel", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM"), "qwen2"),
    **dict.fromkeys(("Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"), "qwen2"),
    **dict.fromkeys(("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"), "qwen35"),
    **dict.fromkeys(("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"), "qwen35"),
    "ChatGLMModel": "chatglm-bpe",
    **dict.fromkeys(("GlmForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"), "glm4"),
}


def main() -> None:
    source = sys.argv.pop(1)
    sys.path[:0] = [
        f"{source}/gguf-py",
        source,
    ]  # its gguf, not the one installed: same version, other tables
    import convert_hf_to_gguf  # type: ignore[import-not-found]
    from conversion.base import TextModel  # type: ignore[import-not-found]

    by_hash = TextModel.get_vocab_base_pre

    def by_hash_or_family(model: Any, tokenizer: Any) -> str:
        try:
            return by_hash(model, tokenizer)
        except NotImplementedError:
            return PRE_TOKENIZERS[model.hf_arch]

    TextModel.get_vocab_base_pre = by_hash_or_family
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
