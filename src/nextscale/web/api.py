"""The routes of the HTTP API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from nextscale.editing.plan import check_wanted
from nextscale.errors import brief
from nextscale.web.delivery import Delivery, while_connected
from nextscale.web.edit_form import read_edit
from nextscale.web.engine import Engine
from nextscale.web.errors import ANY_REFUSAL, REFUSALS, naming, refuse
from nextscale.web.full_size import REQUESTS, PixelRoom
from nextscale.web.job_provenance import provenance_of
from nextscale.web.once import check_form, check_json
from nextscale.web.request_id import current
from nextscale.web.schemas import (
    EditRequest,
    GenerationRequest,
    Health,
    ImagesResponse,
    Model,
    ModelList,
    model_of,
    wanted_of,
)
from nextscale.web.tickets import Expired

FEW_REFUSALS: dict[int | str, dict[str, Any]] = {status: REFUSALS[status] for status in (401, 403, 421)} | ANY_REFUSAL
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
IMAGES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Images. With stream: server-sent events, each with one partial or finished image",
        "content": {"text/event-stream": {"schema": EVENT}},
    },
    **REFUSALS,
    **ANY_REFUSAL,
}


def make_router(engine: Engine, scales: str = "") -> APIRouter:
    """Return the routes ``/v1/...`` and ``/healthz``.

    Args:
        scales: value of ``--scales``, for .pth files with an unofficial schedule.
    """
    router, pipeline = APIRouter(), engine.pipeline
    one_at_a_time = asyncio.Semaphore(1)
    room = PixelRoom(REQUESTS * engine.limits.upload_pixels)

    @router.post("/v1/images/generations", response_model=ImagesResponse, responses=IMAGES)
    async def generate(body: GenerationRequest, request: Request) -> Any:
        """Generate images of a prompt, or of a class."""
        body.check(engine)
        check_json(await request.body())
        job = body.job(wanted_of(body.prompt, engine), engine)
        made = provenance_of(job, pipeline, engine.name, scales, None, **engine.text)
        delivery = Delivery(engine, engine.submit(job, current()), "image_generation", made, body.image_format())
        return delivery.stream(body.partial_images) if body.stream else await while_connected(request, delivery.whole())

    @router.post("/v1/images/edits", response_model=ImagesResponse, responses=IMAGES)
    async def edit(body: Annotated[EditRequest, Form(media_type="multipart/form-data")], request: Request) -> Any:
        """Regenerate a part of an image."""
        body.check(engine)
        check_form(await request.form())
        wanted, mode, arrival = wanted_of(body.prompt, engine, may_be_empty=True), body.spec().mode, current()
        with naming("prompt"):
            check_wanted(mode, [wanted], pipeline.family.takes, len(pipeline.class_names))

        async def start() -> Delivery:
            async with one_at_a_time:  # decoded images are large
                plan, edited = await asyncio.to_thread(read_edit, body, pipeline, engine.limits)
            job = replace(body.job(wanted, engine), edit=plan.edit, schedule=plan.schedule)
            made = provenance_of(job, pipeline, engine.name, scales, edited, **engine.text)
            if plan.original is not None:
                room.hold(plan, plan.original.width * plan.original.height)
            ticket = engine.submit(job, arrival)
            return Delivery(engine, ticket, "image_edit", made, body.image_format(), plan)

        try:
            delivery = await while_connected(request, asyncio.wait_for(start(), arrival.left(engine.limits.seconds)))
        except asyncio.TimeoutError as error:
            raise Expired("the time limit has passed before the image was encoded") from error
        return delivery.stream(body.partial_images) if body.stream else await while_connected(request, delivery.whole())

    @router.get("/v1/models", response_model=ModelList, responses=FEW_REFUSALS)
    async def models() -> Any:
        """List the served model with what it takes: prompts, or its classes."""
        return ModelList(data=[model_of(engine)])

    @router.get("/v1/models/{name:path}", response_model=Model, responses=FEW_REFUSALS | {404: REFUSALS[404]})
    async def model(name: str) -> Any:
        """Describe the served model."""
        if name != engine.name:
            return refuse(404, f"no model {brief(name)} is served here: expected {engine.name!r}", "model")
        return model_of(engine)

    @router.get(
        "/healthz",
        response_model=Health,
        responses={503: {"model": Health}, **{status: REFUSALS[status] for status in (403, 421)}},
    )
    async def health(response: Response) -> Any:
        """Return 200 while the server accepts requests, else 503."""
        response.status_code = 200 if engine.is_ready else 503
        return Health(status="ready" if engine.is_ready else "shutting down", waiting=engine.waiting)

    return router
