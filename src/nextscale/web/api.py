"""The routes of the HTTP API."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from nextscale.editing import EditPlan, plan_edit
from nextscale.errors import InputError
from nextscale.web.answers import REFUSALS
from nextscale.web.delivery import Delivery, while_connected
from nextscale.web.engine import Engine
from nextscale.web.schemas import (
    EditRequest,
    GenerationRequest,
    Health,
    ImagesResponse,
    Model,
    ModelList,
    label_of,
    size_of,
)
from nextscale.web.tickets import Expired, Work
from nextscale.web.uploads import mask_of, parse_box, read_upload, transparent_part

FEW_REFUSALS: dict[int | str, dict[str, Any]] = {status: REFUSALS[status] for status in (401, 421)}


def make_router(engine: Engine) -> APIRouter:
    """``/v1/...`` and ``/healthz``."""
    router, pipeline = APIRouter(), engine.pipeline
    one_at_a_time = asyncio.Semaphore(1)

    @router.post("/v1/images/generations", response_model=ImagesResponse, responses=REFUSALS)
    async def generate(body: GenerationRequest, request: Request) -> Any:
        """Draw pictures of a class."""
        body.check(engine.name, pipeline)
        label = label_of(body.prompt, pipeline)
        ticket = engine.submit(Work((label,) * body.n, body.seeds(), body.settings(), watch=body.stream))
        delivery = Delivery(engine, ticket)
        return delivery.stream(body.partial_images) if body.stream else await while_connected(request, delivery.whole())

    @router.post("/v1/images/edits", response_model=ImagesResponse, responses=REFUSALS)
    async def edit(body: Annotated[EditRequest, Form(media_type="multipart/form-data")], request: Request) -> Any:
        """Draw part of a picture anew."""
        body.check(engine.name, pipeline)
        label = label_of(body.prompt, pipeline)
        if body.mode == "class" and label == pipeline.model.config.num_classes:
            raise InputError("mode class draws another class: expected a prompt that names one")

        async def start() -> Delivery:
            async with one_at_a_time:  # decoded pictures are large
                plan = await asyncio.to_thread(plan_of, body)
            work = Work((label,) * body.n, body.seeds(), body.settings(), plan.edit, watch=body.stream)
            return Delivery(engine, engine.submit(work), "image_edit", plan if body.composite else None)

        try:
            delivery = await while_connected(request, asyncio.wait_for(start(), engine.limits.seconds))
        except asyncio.TimeoutError as error:
            raise Expired("the time limit has passed before the picture was encoded") from error
        return delivery.stream(body.partial_images) if body.stream else await while_connected(request, delivery.whole())

    def plan_of(body: EditRequest) -> EditPlan:
        """Decode what was uploaded, and plan the edit."""
        picture = read_upload(body.image.file, "image", engine.limits)
        mask = None
        if body.mask is not None:
            mask = mask_of(read_upload(body.mask.file, "mask", engine.limits))
        elif not body.box:
            mask = transparent_part(picture)
            if mask is None:
                raise InputError(
                    "nothing says what to draw: expected a mask, a box, or an image with transparent parts"
                )
        return plan_edit(
            pipeline.tokenizer,
            picture,
            mask,
            box=parse_box(body.box) if body.box else None,
            mode=body.mode,
            leak_free=body.leak_free,
            softness=body.softness,
        )

    @router.get("/v1/models", response_model=ModelList, responses=FEW_REFUSALS)
    async def models() -> Any:
        """The model that is served, and its classes."""
        scales = [f"{h}x{w}" for h, w in pipeline.tokenizer.schedule.sizes]
        model = Model(id=engine.name, size=size_of(pipeline), classes=pipeline.class_names, scales=scales)
        return ModelList(data=[model])

    @router.get("/healthz", response_model=Health, responses={503: {"model": Health}, 421: REFUSALS[421]})
    async def health(response: Response) -> Any:
        """Whether the server takes requests: 200, else 503."""
        response.status_code = 200 if engine.is_ready else 503
        return Health(status="ready" if engine.is_ready else "shutting down", waiting=engine.waiting)

    return router
