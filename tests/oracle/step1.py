"""Runs llama.cpp's convert_hf_to_gguf.py in a process of its own: step1.py SOURCE CHECKPOINT TYPE=OUT... [--options].

The script knows a pre-tokenizer by a hash over the ids of one text, so it stops at a vocabulary it has never
seen. For those the answer here follows from the family; every vocabulary it knows is answered by itself. Where a
repository brings its own tokenizer's code, a stand-in built on the library that code uses answers instead.

torch's exp (the decay of linear attention) differs from CPU to CPU in the last bit; here it is rounded correctly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PRE_TOKENIZERS = {
    **dict.fromkeys(("QWenLMHeadModel", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM"), "qwen2"),
    **dict.fromkeys(("Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"), "qwen2"),
    **dict.fromkeys(("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"), "qwen35"),
    **dict.fromkeys(("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"), "qwen35"),
    "ChatGLMModel": "chatglm-bpe",
    **dict.fromkeys(("GlmForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"), "glm4"),
}


UNMENDED = "--unmended"  # run it as it is, known faults included


def main() -> None:
    source, checkpoint, *rest = sys.argv[1:]
    outputs = [argument.split("=", 1) for argument in rest if not argument.startswith("-")]
    options = [argument for argument in rest if argument.startswith("-") and argument != UNMENDED]
    sys.path[:0] = [f"{source}/gguf-py", source]  # its gguf, not the one installed: same version, other tables
    import convert_hf_to_gguf  # type: ignore[import-not-found]
    import torch
    import transformers
    from conversion.base import TextModel  # type: ignore[import-not-found]
    from conversion.qwen import QwenModel  # type: ignore[import-not-found]
    from own_tokenizers import stand_in  # beside this script; the source has a package named tests, too

    by_hash = TextModel.get_vocab_base_pre
    from_files = transformers.AutoTokenizer.from_pretrained
    exp = torch.exp

    def exp_rounded_correctly(values: Any) -> Any:
        return exp(values.double()).to(values.dtype)

    def by_hash_or_family(model: Any, tokenizer: Any) -> str:
        try:
            return by_hash(model, tokenizer)
        except NotImplementedError:
            return PRE_TOKENIZERS[model.hf_arch]

    def without_its_code(folder: Any, *arguments: Any, **options: Any) -> Any:
        return stand_in(Path(folder)) or from_files(folder, *arguments, **options)

    def set_right_epsilon(model: Any) -> None:
        """llama.cpp's loader refuses the file otherwise, and the second step with it."""
        model.gguf_writer.add_layer_norm_eps = model.gguf_writer.add_layer_norm_rms_eps
        TextModel.set_gguf_parameters(model)

    TextModel.get_vocab_base_pre = by_hash_or_family
    transformers.AutoTokenizer.from_pretrained = without_its_code
    torch.exp = exp_rounded_correctly
    if UNMENDED not in rest:
        QwenModel.set_gguf_parameters = set_right_epsilon
    for outtype, path in outputs:
        sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outtype", outtype, "--outfile", path, *options]
        convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
