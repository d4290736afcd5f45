"""``edge demo``: both embedded models at three levels, each asked a question; nothing is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edge import reference
from edge.cli.common import command_options, json_option, print_json, progress_bar
from edge.conversion import convert_and_check, gate_text
from edge.text import size_text

LEVELS = ("Q8_0", "Q4_K_M", "Q4_0")
QUESTIONS = {"tiny-qwen": "你好", "tiny-glm": "Where are the toilets?"}
MAX_TOKENS = 128


@click.command("demo")
@json_option
@command_options
def demo_command(as_json: bool) -> None:
    """Convert the embedded tiny models, run each, print tokens/s per level and an answer."""
    from edge.api import Engine

    rows = []
    with tempfile.TemporaryDirectory() as folder, progress_bar(as_json) as bar:
        for name in reference.EMBEDDED:
            checkpoint = reference.parse(name).checkpoint
            assert checkpoint is not None
            outputs = {level: Path(folder) / f"{name}-{level}.gguf" for level in LEVELS}
            report = convert_and_check(checkpoint, outputs, on_progress=bar)
            for output in report.outputs:
                with Engine(output.path, ctx=1024, slots=1) as llm:
                    llm.generate(["1"], max_tokens=2)  # warm up, untimed
                    question = {"role": "user", "content": QUESTIONS[name]}
                    result = llm.chat([question], temperature=0, max_tokens=MAX_TOKENS).result
                rows.append(
                    {
                        "model": name,
                        "level": output.level,
                        "bytes": output.nbytes,
                        "gate": gate_text({"gate": output.gate or {}}),
                        "prefill_tokens_per_second": round(result.timings.prefill_rate, 1),
                        "decode_tokens_per_second": round(result.timings.decode_rate, 1),
                        "question": QUESTIONS[name],
                        "answer": result.text.strip(),
                    }
                )
    if as_json:
        print_json({"runs": rows})
        return
    table = Table("MODEL", "LEVEL", "SIZE", "GATE", "PREFILL t/s", "DECODE t/s", "ANSWER", box=None, pad_edge=False)
    for row in rows:
        speeds = (f"{row['prefill_tokens_per_second']:.0f}", f"{row['decode_tokens_per_second']:.0f}")
        asked = f"{row['question']} -> {row['answer']}"
        table.add_row(row["model"], row["level"], size_text(row["bytes"]), row["gate"], *speeds, asked)
    Console().print(table)
    click.echo('Now try: edge run tiny-qwen "Hello"')
