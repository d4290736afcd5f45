"""Back to the version before; once more, and forth again."""

from __future__ import annotations

from collections.abc import Callable

from . import durable, log, slot
from .errors import BoxError
from .install import serve, title
from .layout import Layout, clean, current_slot, holding, is_folder, previous_slot, switch
from .manifest import Manifest
from .service import Systemd


def roll_back(layout: Layout, systemd: Systemd | None, say: Callable[[str], None]) -> Manifest:
    """Make the previous slot the current one, and serve it. Raises BoxError."""
    if not is_folder(layout.root):
        raise BoxError(f"nothing is installed in {layout.root}", "name another --root")
    with holding(layout):
        serving, name = current_slot(layout), previous_slot(layout)
        if serving is None or name is None:
            raise BoxError("there is no version to go back to", "install a box: python3 BOX install")
        manifest = slot.read_manifest(layout.slot(name))

        def note(text: str) -> None:
            log.write(layout.log, text)
            say(text)

        go_to(layout, name, serving)
        note(f"rolled back to slot {name}: {title(manifest)}")
        clean(layout)
        if systemd is not None:
            try:
                serve(layout, manifest, systemd)
            except BoxError as error:
                go_to(layout, serving, name)
                serve(layout, slot.read_manifest(layout.slot(serving)), systemd)
                why = f"slot {name} does not start, so slot {serving} is served again"
                note(why)
                raise BoxError(f"{why}: {error.message}") from error
        return manifest


def go_to(layout: Layout, name: str, previous: str) -> None:
    """Raises OSError."""
    switch(layout, name)
    durable.write(layout.previous, f"{previous}\n".encode())
