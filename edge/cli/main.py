"""The command ``edge``: one file a command, loaded when it is used."""

from __future__ import annotations

import importlib
import io
import sys

import click

import edge

COMMANDS = {
    "pull": "edge.cli.pull:pull_command",
    "convert": "edge.cli.convert:convert_command",
    "list": "edge.cli.list:list_command",
    "show": "edge.cli.show:show_command",
    "rm": "edge.cli.rm:rm_command",
    "run": "edge.cli.run:run_command",
    "chat": "edge.cli.chat:chat_command",
    "serve": "edge.cli.serve:serve_command",
    "plan": "edge.cli.plan:plan_command",
    "bench": "edge.cli.bench:bench_command",
    "compare": "edge.cli.compare:compare_command",
    "eval": "edge.cli.eval:eval_command",
    "tune": "edge.cli.tune:tune_command",
    "lock": "edge.cli.lock:lock_command",
    "verify": "edge.cli.verify:verify_command",
    "pack": "edge.cli.pack:pack_command",
    "doctor": "edge.cli.doctor:doctor_command",
    "kiosk": "edge.cli.kiosk:kiosk_command",
    "rollback": "edge.cli.rollback:rollback_command",
    "prove-offline": "edge.cli.prove_offline:prove_offline_command",
    "demo": "edge.cli.demo:demo_command",
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs, so that ``edge list`` starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            return unavailable(cmd_name, error)


def unavailable(name: str, error: ModuleNotFoundError) -> click.Command:
    """A command whose packages are not all here. It is not listed, and says why when it is used."""
    from edge.cli.common import fail, is_foreign

    if not is_foreign(error):
        raise error
    taken = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=lambda: fail(error, debug=False), hidden=True, add_help_option=False, context_settings=taken
    )


@click.group(cls=LazyGroup)
@click.version_option(edge.__version__, prog_name="edge")
def cli() -> None:
    """Fetch, convert, check and run Qwen and GLM models on small machines.

    MODEL is a name (qwen2.5-7b), a name with a quant level (qwen2.5-7b:Q8_0), a hub's org/repo, a checkpoint folder
    or a .gguf file.
    """


def main() -> None:
    """Entry point; output is UTF-8 whatever the system's code page is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    cli()
