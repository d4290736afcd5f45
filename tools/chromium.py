"""Prints the path of a Chromium for the browser tests, and gets one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """One that is here already."""
    return on_path() or of_playwright()


def get() -> str | None:
    """One that is here, or that can be fetched."""
    path = find()
    for fetch in (install_with_playwright, install_with_apt):
        if path is None:
            fetch()
            path = find()
    return path


def on_path() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def of_playwright() -> str | None:
    try:
        from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install_with_playwright() -> None:
    quietly([sys.executable, "-m", "playwright", "install", "chromium"])


def install_with_apt() -> None:
    if shutil.which("apt-get") and is_root():
        quietly(["apt-get", "update"])
        quietly(["apt-get", "install", "-y", "--no-install-recommends", "chromium"])


def is_root() -> bool:
    user: Callable[[], int] = getattr(os, "geteuid", lambda: -1)
    return user() == 0


def quietly(command: list[str]) -> None:
    """What fails here shows in that there is still no Chromium."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def main() -> int:
    path = get()
    if path is None:
        print("error: there is no Chromium here; install one, so that `chromium` is on PATH", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
