"""The chat page: files of our own, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from edge.server.errors import fault_of_status
from edge.server.guard import respond
from edge.server.serving import serving_of

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> Response:
    return asset("index.html")


@router.get("/page/settings.json")
async def settings(request: Request) -> Response:
    """What the page needs to know; public, as the page is."""
    serving = serving_of(request)
    kiosk = serving.config.kiosk
    return JSONResponse(
        {
            "model": serving.name,
            "quant": serving.level,
            "n_ctx": serving.loaded.ctx if serving.loaded else None,
            "key_needed": bool(serving.config.keys),
            "thinks": serving.thinks,
            "ready": serving.loaded is not None,
            "kiosk": kiosk.model_dump(exclude={"golden"}) if kiosk else None,
        },
        headers=HEADERS,
    )


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def file(name: str) -> Response:
    return asset(name)


def asset(name: str, folder: Path = PAGE) -> Response:
    path = folder / name
    if path.parent != folder or path.suffix not in TYPES or not path.is_file():
        return respond(fault_of_status(404))
    return FileResponse(path, media_type=TYPES[path.suffix], headers=HEADERS)
