"""``edge pack``: a model and all that serves it, as one signed file for machines that never see a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edge import reference, store
from edge.cli.answering import ensure_converted
from edge.cli.common import command_options, json_option, models_dir_option, print_json, progress_bar
from edge.cli.serve import serve_command
from edge.text import size_text

if TYPE_CHECKING:
    from edge.kiosk.pack import Packed

# Options of edge serve that a box does not take, and why.
NOT_HERE = {
    **dict.fromkeys(("ctx", "slots"), "give it before the --"),
    **dict.fromkeys(("host", "port", "socket"), "edge kiosk apply --listen says where the kiosk listens"),
    **dict.fromkeys(("api_key_file", "operator_key_file"), "keys are written on the kiosk, see docs/kiosk.md"),
    **dict.fromkeys(("alias", "kiosk", "state_dir", "models_dir"), "the box sets it"),
}
DEFAULT_KEY = ""  # what --new-key without a file is


@click.command("pack")
@click.argument("model", required=False)
@click.argument("serve_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- SERVE OPTIONS]")
@click.option("--config", type=click.Path(path_type=Path), help="The visitors' page: a kiosk.toml.")
@click.option("--key", type=click.Path(path_type=Path), help="Sign with this key (default: that of --new-key).")
@click.option("-c", "--ctx", type=click.IntRange(8), help="Context in tokens (default: 4096, or less).")
@click.option("--slots", type=click.IntRange(1, 64), default=4, show_default=True, help="Answers at once.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The box (default: NAME-LEVEL.edge).")
@click.option(
    "--new-key", is_flag=False, flag_value=DEFAULT_KEY, metavar="[FILE]", help="Make a key instead, and print whose."
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress; only the fingerprint.")
@models_dir_option
@command_options
def pack_command(
    model: str | None,
    serve_options: tuple[str, ...],
    config: Path | None,
    key: Path | None,
    ctx: int | None,
    slots: int,
    output: Path | None,
    new_key: str | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
) -> None:
    """Put MODEL, its runtime for three kinds of CPU, and an installer into one signed file.

    On the kiosk: python3 BOX install --key FINGERPRINT. The first time, llama.cpp is compiled for the box, which takes
    minutes. What follows -- are options of edge serve for the service there.
    """
    if new_key is not None:
        if model is not None:
            raise click.UsageError("--new-key takes no MODEL; write --new-key=FILE to name a file")
        make_key(Path(new_key) if new_key else None, as_json, quiet)
        return
    if model is None:
        raise click.UsageError("say which MODEL, or --new-key")
    from edge.kiosk import builds, keys
    from edge.kiosk.pack import pack

    check_options(serve_options)
    models = store.models_dir(models_dir)
    silent = quiet or as_json
    gguf = ensure_converted(model, models, silent)
    wanted = reference.parse(model)
    name = wanted.name if wanted.gguf is None else name_of(gguf)
    if not silent and not builds.kept_folder().is_dir():
        click.echo("llama.cpp is compiled for three kinds of CPU, once: some five minutes on two cores", err=True)
    with progress_bar(silent) as bar:
        packed = pack(
            gguf,
            name,
            output or Path(f"{gguf.stem}.edge"),
            key=key or keys.default_path(),
            models=models,
            config=config,
            ctx=ctx,
            slots=slots,
            serve=serve_options,
            on_progress=bar,
        )
    if as_json:
        print_json(json_of(packed))
    elif quiet:
        click.echo(packed.fingerprint)
    else:
        click.echo("\n".join(lines_of(packed)))


def check_options(options: tuple[str, ...]) -> None:
    """Raises UsageError for what edge serve does not take, and for what the box or the kiosk decides."""
    parsed = serve_command.make_context("edge serve", ["MODEL", *options])
    for parameter in serve_command.params:
        given = parsed.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in NOT_HERE:
            raise click.UsageError(f"{parameter.opts[-1]} is not for the service of a box: {NOT_HERE[parameter.name]}")


def make_key(path: Path | None, as_json: bool, quiet: bool) -> None:
    from edge.kiosk import keys

    path = path or keys.default_path()
    fingerprint = keys.new_key(path)
    if as_json:
        print_json({"key": str(path), "fingerprint": fingerprint})
    elif quiet:
        click.echo(fingerprint)
    else:
        click.echo(f"{path}: keep it secret and keep a copy; without it installed kiosks take no update")
        click.echo(f"fingerprint: {fingerprint}")


def name_of(gguf: Path) -> str:
    """``qwen2.5-7b`` of ``qwen2.5-7b-Q4_K_M.gguf``."""
    from edge.model_file import level_of, read_sane

    return gguf.stem.removesuffix(f"-{level_of(read_sane(gguf))}")


def lines_of(packed: Packed) -> list[str]:
    manifest = packed.manifest
    return [
        f"{packed.box}: {size_text(packed.size)}, {manifest.name} {manifest.level}",
        f"needs: Linux on {manifest.machine}, Python {manifest.python}, glibc {manifest.glibc} or newer,"
        f" a CPU with SSE4.2, {size_text(manifest.memory)} of memory",
        f"golden question: {manifest.golden.question} -> {manifest.golden.prefix}",
        f"signed by:       {packed.fingerprint}",
        f"its installer:   {packed.archive.sha256}",
        f"  check that before running it: {packed.check_command}",
        f"  then on the kiosk:            {packed.install_command}",
    ]


def json_of(packed: Packed) -> dict[str, object]:
    manifest = packed.manifest
    return {
        "box": str(packed.box),
        "bytes": packed.size,
        "fingerprint": packed.fingerprint,
        "installer": {"bytes": packed.archive.length, "sha256": packed.archive.sha256, "check": packed.check_command},
        "install": packed.install_command,
        **{
            name: getattr(manifest, name)
            for name in ("name", "level", "machine", "python", "glibc", "cpu", "serve", "memory")
        },
        "golden": dataclasses.asdict(manifest.golden),
    }
