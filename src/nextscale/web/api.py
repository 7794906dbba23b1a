"""The routes of the HTTP API."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image

from nextscale.errors import InputError
from nextscale.web.answers import REFUSALS, error_body
from nextscale.web.engine import Engine
from nextscale.web.schemas import (
    GenerationRequest,
    Health,
    ImagesResponse,
    Model,
    ModelList,
    Picture,
    StreamedPicture,
    label_of,
    name_of,
    size_of,
)
from nextscale.web.tickets import Cancelled, Done, Refused, Scale, Ticket, Work

T = TypeVar("T")


def make_router(engine: Engine) -> APIRouter:
    """``/v1/...`` and ``/healthz``."""
    router, pipeline = APIRouter(), engine.pipeline
    schedule = pipeline.tokenizer.schedule

    @router.post("/v1/images/generations", response_model=ImagesResponse, responses=REFUSALS)
    async def generate(body: GenerationRequest, request: Request) -> Any:
        """Draw pictures of a class."""
        body.check(engine.name, pipeline)
        label = label_of(body.prompt, pipeline)
        ticket = engine.submit(Work((label,) * body.n, body.seeds(), body.settings(), watch=body.stream))
        if body.stream:
            shown = shown_scales(body.partial_images, schedule.num_scales)
            return StreamingResponse(stream(ticket, shown), media_type="text/event-stream", headers=NOT_KEPT)
        return await answer(await while_connected(request, ticket.aresult()), ticket.work)

    @router.get("/v1/models", response_model=ModelList, responses=FEW_REFUSALS)
    async def models() -> Any:
        """The model that is served, and its classes."""
        scales = [f"{h}x{w}" for h, w in schedule.sizes]
        model = Model(id=engine.name, size=size_of(pipeline), classes=pipeline.class_names, scales=scales)
        return ModelList(data=[model])

    @router.get("/healthz", response_model=Health, responses={503: {"model": Health}, **FEW_REFUSALS})
    async def health(response: Response) -> Any:
        """Whether the server takes requests: 200, else 503."""
        response.status_code = 200 if engine.is_ready else 503
        return Health(status="ready" if engine.is_ready else "shutting down", waiting=engine.waiting)

    async def answer(done: Done, work: Work) -> ImagesResponse:
        encoded = await asyncio.to_thread(lambda: [encode(picture) for picture in done.pictures])
        pictures = [
            Picture(b64_json=png, seed=seed, label=name_of(label, pipeline))
            for png, seed, label in zip(encoded, work.seeds, work.labels, strict=True)
        ]
        return ImagesResponse(created=int(time.time()), model=engine.name, size=size_of(pipeline), data=pictures)

    async def stream(ticket: Ticket, shown: Sequence[int]) -> AsyncIterator[str]:
        """Server-sent events: a picture each."""
        last = schedule.num_scales - 1

        async def events(scale: Scale | Done) -> AsyncIterator[str]:
            k = last if isinstance(scale, Done) else scale.index
            first = 0 if isinstance(scale, Done) else scale.first
            h, w = schedule.sizes[k]
            for i, picture in enumerate(scale.pictures, first):
                event = StreamedPicture(
                    type="image_generation.completed" if isinstance(scale, Done) else "image_generation.partial_image",
                    b64_json=await asyncio.to_thread(encode, picture),
                    created_at=int(time.time()),
                    index=i,
                    partial_image_index=k,
                    scale=f"{h}x{w}",
                    size=size_of(pipeline),
                    seed=ticket.work.seeds[i],
                    label=name_of(ticket.work.labels[i], pipeline),
                )
                yield server_sent_event(event.type, event.model_dump())

        try:
            async for scale in ticket.aevents():
                if isinstance(scale, Done) or scale.index in shown:
                    async for event in events(scale):
                        yield event
        except (Refused, InputError) as error:
            status = error.status if isinstance(error, Refused) else 400
            yield server_sent_event("error", {"type": "error", **error_body(status, str(error))})

    return router


NOT_KEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
FEW_REFUSALS: dict[int | str, dict[str, Any]] = {status: REFUSALS[status] for status in (401, 421)}


async def while_connected(request: Request, awaited: Awaitable[T]) -> T:
    """Wait for something as long as the client does; its leaving cancels the wait."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, leaving = asyncio.ensure_future(awaited), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Cancelled("the client has gone")
        return work.result()
    finally:
        for task in (work, leaving):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Refused):
                    await task


def shown_scales(count: int | None, num_scales: int) -> Sequence[int]:
    """Which of the scales before the last are shown: at most ``count``, evenly spread."""
    before = num_scales - 1
    if count is None or count >= before:
        return range(before)
    return [round((i + 1) * num_scales / (count + 1)) - 1 for i in range(count)]


def encode(picture: Image.Image) -> str:
    """A picture as a PNG in base 64."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def server_sent_event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
