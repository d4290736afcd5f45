"""How the server and its machine are, for who looks after them. Numbers and names alone: never what was asked."""

from __future__ import annotations

import platform
import shutil
import time
from pathlib import Path
from typing import Any

import psutil

import edge
from edge.bench import gauges
from edge.cgroup import cgroup_limits
from edge.llama import library
from edge.server.metrics import counts
from edge.server.serving import Serving

Json = dict[str, Any]
LOG_LINES = 20


def status_of(serving: Serving) -> Json:
    """What cannot be read is None."""
    return {
        "model": model(serving),
        "versions": {
            "edge": edge.__version__,
            "llama-cpp-python": library.version(),
            "python": platform.python_version(),
        },
        "uptime": round(time.monotonic() - serving.metrics.began, 1),
        "start": start(serving),
        "slots": [{"state": one.state, "tokens": one.tokens} for one in serving.loaded.slots] if serving.loaded else [],
        "queue": {"waiting": serving.gate.waiting, "places": serving.gate.places - serving.gate.slots},
        "answers": answers(serving),
        "errors": counts(serving.metrics.errors, "kind"),
        "refused": {status: count for status, count in statuses(serving).items() if status.startswith("4")},
        "machine": machine(),
        "disk": disk(serving),
        "kiosk": kiosk(serving),
    }


def model(serving: Serving) -> Json:
    loaded = serving.loaded
    return {
        "name": serving.name,
        "level": serving.level,
        "status": "ready" if loaded else "loading",
        "n_ctx": loaded.ctx if loaded else None,
        "n_params": loaded.model.n_params if loaded else None,
    }


def start(serving: Serving) -> str | None:
    """None where there is nothing that could have been kept."""
    if serving.warm is None:
        return None
    return "warm" if serving.warm.restored else "cold"


def answers(serving: Serving) -> Json:
    """Medians of the last ones. Times in seconds."""
    recent = list(serving.metrics.recent)
    written = [one.decode_rate for one in recent if one.generated_tokens > 1]
    waited = [one.first_token for one in recent if one.generated_tokens]
    return {
        "count": len(recent),
        "tokens_per_second": round(median(written), 2) if written else None,
        "first_token": round(median(waited), 3) if waited else None,
        "longest_first_token": round(max(waited), 3) if waited else None,
    }


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def statuses(serving: Serving) -> dict[str, int]:
    return counts(serving.metrics.requests, "status")


def machine() -> Json:
    """Bytes, degrees Celsius, Hz. ``limit``: of this service, or all that there is."""
    memory = psutil.virtual_memory()
    return {
        "memory": psutil.Process().memory_info().rss,
        "peak": gauges.peak_memory(),
        "limit": cgroup_limits().memory or memory.total,
        "available": memory.available,
        "temperature": gauges.temperature(),
        "clock": gauges.clock(),
    }


def disk(serving: Serving) -> Json | None:
    """Bytes of the disk that the model is on."""
    if serving.loaded is None:
        return None
    try:
        used = shutil.disk_usage(serving.loaded.model.path.parent)
    except OSError:
        return None
    return {"free": used.free, "total": used.total}


def kiosk(serving: Serving) -> Json | None:
    """Of an installed box: the slot that is served, and what was done to it of late. None elsewhere."""
    if serving.loaded is None or (root := root_of(serving.loaded.model.path)) is None:
        return None
    from edge.kiosk.box.layout import Layout  # Linux alone has it
    from edge.kiosk.box.log import last_lines

    return {"slot": serving.loaded.model.path.resolve().parents[1].name, "log": last_lines(Layout(root).log, LOG_LINES)}


def root_of(path: Path) -> Path | None:
    """The folder that a box was installed to, where ``path`` is the model of one of its slots."""
    parents = path.resolve().parents
    installed = len(parents) > 3 and parents[2].name == "slots" and parents[1].name in ("a", "b")
    return parents[3] if installed and (parents[3] / "current").is_symlink() else None
