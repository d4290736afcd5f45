"""``edge serve``: the OpenAI-compatible server, with a chat page."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click

from convert.levels import LEVELS
from edge import reference, store
from edge.cli.answering import ensure_converted
from edge.cli.common import command_options, models_dir_option
from edge.cli.model_options import ENGINE, engine_and_answer, with_options

DEFAULT_SLOTS = 4


@click.command("serve")
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--socket", type=click.Path(path_type=Path), help="Listen on a Unix socket instead.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="Ask for one of these keys, one a line.")
@click.option("--without-key", is_flag=True, help="Let everybody ask who can reach --host.")
@click.option("--slots", type=click.IntRange(1, 64), default=DEFAULT_SLOTS, show_default=True, help="Answers at once.")
@click.option("--queue", type=click.IntRange(0, 1024), default=16, show_default=True, help="Requests that may wait.")
@click.option("--timeout", type=click.FloatRange(1), default=600, show_default=True, help="Seconds for an answer.")
@click.option("--answer-seconds", type=click.FloatRange(1), help="After these an answer ends with its sentence.")
@click.option("--cors-origin", multiple=True, help="A page elsewhere that may ask, as https://chat.example.org.")
@click.option("--allow-host", multiple=True, help="A further name of this server.")
@click.option("--alias", help="Name of the model for clients.")
@click.option("--kiosk", type=click.Path(path_type=Path), help="A page for visitors, from this TOML file.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where what conversations begin with is kept.")
@click.option("--operator-key-file", type=click.Path(path_type=Path), help="A page of how it is, for these keys.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True, help="End when who started it is gone.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but failures.")
@click.option("-v", "--verbose", is_flag=True, help="A line a request: which endpoint, status, seconds.")
@models_dir_option
@command_options
@partial(with_options, ENGINE)
def serve_command(
    model: str,
    host: str,
    port: int,
    socket: Path | None,
    api_key_file: Path | None,
    without_key: bool,
    slots: int,
    queue: int,
    timeout: float,
    answer_seconds: float | None,
    cors_origin: tuple[str, ...],
    allow_host: tuple[str, ...],
    alias: str | None,
    kiosk: Path | None,
    state_dir: Path | None,
    operator_key_file: Path | None,
    until_stdin_ends: bool,
    quiet: bool,
    verbose: bool,
    models_dir: Path | None,
    **given: Any,
) -> None:
    """Serve MODEL to OpenAI's clients, and a chat page at /."""
    from edge.server import activation, notify
    from edge.server import config as settings

    if until_stdin_ends:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    manager = notify.manager_of(os.environ)
    config = settings.Config(
        host=host,
        port=port,
        socket=socket,
        keys=settings.read_keys(api_key_file) if api_key_file else (),
        queue=queue,
        timeout=timeout,
        answer_seconds=answer_seconds,
        origins=cors_origin,
        hosts=allow_host,
        kiosk=settings.read_kiosk(kiosk) if kiosk else None,
        operator_keys=settings.read_keys(operator_key_file) if operator_key_file else (),
    )
    config = activation.adopt(config, os.environ)
    settings.check_reach(config, without_key)
    engine, _ = engine_and_answer(given)
    path = ensure_converted(model, store.models_dir(models_dir), quiet)
    wanted = reference.parse(model)
    name = alias or (wanted.name if wanted.gguf is None else path.stem)  # no folder of this machine is in it

    # Before the threads part: one could meet what the other has imported half.
    from edge.api import Engine
    from edge.warm import Warm

    loader = ThreadPoolExecutor(1)  # it loads while the server is imported
    loading = loader.submit(Engine, path, slots=slots, models_dir=models_dir, **engine)
    loader.shutdown(wait=False)
    prefix = notify.warning_prefix(os.environ)

    def log(text: str) -> None:
        click.echo(text, err=True)

    def warn(text: str) -> None:
        log(prefix + text)

    def ready(address: str) -> None:
        if not quiet:
            log(f"{name} at {address} (Ctrl-C ends; page at /, OpenAI clients at /v1)")

    warm = None
    if state_dir is not None or config.kiosk is not None:
        shown = config.kiosk or settings.Kiosk()
        warm = Warm(state_dir, shown.system, shown.questions, warn, (lambda text: None) if quiet else log)
    from edge.server.run import serve
    from edge.server.serving import Serving

    debug = bool(click.get_current_context().params["debug"])
    tell = log if verbose else lambda text: None
    level = path.stem.rpartition("-")[2] if path.stem.rpartition("-")[2] in LEVELS else ""
    serve(Serving(name, level, slots, config, loading.result, warn, tell, debug, warm), ready, manager)


def end_with_stdin() -> None:
    """Who started this process holds the other end of its stdin, which closes however that one ends."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
