"""Runs set_vocab of llama.cpp's converter alone: upstream_vocab.py SOURCE FOLDER MODULE CLASS METHOD.

Prints what it would write, as a JSON list of [name of the writer's method, value]. The tokenizer is the stand-in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda value: self.calls.append((name, value))


def main() -> None:
    source, folder, module, name, method = sys.argv[1:]
    sys.path[:0] = [f"{source}/gguf-py", source]
    import importlib

    import transformers
    from own_tokenizers import stand_in  # beside this script; the source has a package named tests, too

    transformers.AutoTokenizer.from_pretrained = lambda path, **_: stand_in(Path(path))
    model_class = getattr(importlib.import_module(f"conversion.{module}"), name)
    model = SimpleNamespace(
        dir_model=Path(folder),
        hparams=json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")),
        gguf_writer=Recorder(),
        get_vocab_base_pre=lambda tokenizer: "qwen2",
    )
    getattr(model_class, method)(model)
    text = [
        (key, [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value)
        for key, value in model.gguf_writer.calls
    ]
    print(json.dumps(text))


if __name__ == "__main__":
    main()
