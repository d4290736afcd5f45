"""``POST /kiosk/wipe``: what a kiosk's page asks for when a visitor has gone. Only where there is a kiosk."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.server.body import read, takes
from edge.server.serving import serving_of

router = APIRouter()


class WipeRequest(BaseModel):
    """Nothing to say; a body all the same, so that no page from elsewhere can send it unasked."""

    model_config = ConfigDict(extra="forbid")


@router.post("/kiosk/wipe", **takes(WipeRequest))
async def wipe(request: Request, body: Annotated[WipeRequest, read(WipeRequest)]) -> Response:
    """Forget conversations that nobody is at work for; of the others, what they leave when all have ended."""
    await asyncio.wrap_future(serving_of(request).engine.wipe())
    return JSONResponse({"status": "ok"})
