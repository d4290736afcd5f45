"""The operator's page, and the state of the server that it shows. Only where there is a key for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.server.operator_status import status_of
from edge.server.page_route import HEADERS, asset
from edge.server.serving import serving_of

FOLDER = Path(__file__).parent / "operator"

router = APIRouter(include_in_schema=False)


@router.api_route("/operator", methods=["GET", "HEAD"])
async def index() -> Response:
    """Public, as its files are: it asks for the key, and shows nothing without."""
    return asset("index.html", FOLDER)


@router.get("/operator/status")
async def status(request: Request) -> Response:
    told = await asyncio.to_thread(status_of, serving_of(request))
    return JSONResponse(told, headers=HEADERS | {"Cache-Control": "no-store"})


@router.api_route("/operator/page/{name}", methods=["GET", "HEAD"])
async def file(name: str) -> Response:
    return asset(name, FOLDER)
