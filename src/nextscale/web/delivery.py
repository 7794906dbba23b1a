"""Responses with images: files in base64 in one response, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from PIL import Image

from nextscale.editing.plan import EditPlan
from nextscale.errors import InputError
from nextscale.provenance import Provenance
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.engine import Engine
from nextscale.web.errors import error_body
from nextscale.web.image_format import ImageFormat
from nextscale.web.schemas import ImageData, ImagesResponse, StreamedImageData, size_of
from nextscale.web.tickets import Cancelled, Done, Refused, Scale, Ticket

T = TypeVar("T")


@dataclass(frozen=True)
class Delivery:
    """The response to a request.

    Args:
        kind: prefix of the names of streamed events.
        made: provenance for the metadata of the images.
        image_format: file format of the images.
        plan: plan of an edit, to paste the images into the edited image.
    """

    engine: Engine
    ticket: Ticket
    kind: Literal["image_generation", "image_edit"]
    made: Provenance
    image_format: ImageFormat
    plan: EditPlan | None = None

    @cached_property
    def notes(self) -> list[str]:
        """See `Engine.notes_of`."""
        return self.engine.notes_of(self.ticket.job)

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales of the images."""
        return self.engine.schedule_of(self.ticket.job)

    async def whole(self) -> ImagesResponse:
        """Wait for all images.

        Raises:
            Refused, InputError: see `Ticket.events`.
        """
        done = await self.ticket.aresult()
        encoded = await asyncio.to_thread(self._encode, done)
        images = [
            ImageData(b64_json=file, seed=seed, label=self._label(i))
            for i, (file, seed) in enumerate(zip(encoded, self.ticket.job.seeds, strict=True))
        ]
        return ImagesResponse(
            created=int(time.time()),
            model=self.engine.name,
            size=self._size(is_done=True),
            output_format=self.image_format.name,
            data=images,
            notes=self.notes,
        )

    def stream(self, partial_images: int | None) -> StreamingResponse:
        """Stream the images scale by scale, one event per image."""
        shown = shown_scales(partial_images, self.schedule.num_scales)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies must not buffer events
        return StreamingResponse(self._events(shown), media_type="text/event-stream", headers=headers)

    async def _events(self, shown: Collection[int]) -> AsyncIterator[str]:
        try:
            async for event in self.ticket.aevents():
                if isinstance(event, Done) or event.index in shown:
                    for image in await asyncio.to_thread(self._streamed, event):
                        yield server_sent_event(image.type, image.model_dump())
        except (Refused, InputError) as error:
            status = error.status if isinstance(error, Refused) else 400
            yield server_sent_event("error", {"type": "error", **error_body(status, str(error))})

    def _streamed(self, event: Scale | Done) -> list[StreamedImageData]:
        schedule = self.schedule
        is_done = isinstance(event, Done)
        k, first = (schedule.num_scales - 1, 0) if isinstance(event, Done) else (event.index, event.first)
        h, w = schedule.sizes[k]
        return [
            StreamedImageData(
                type=f"{self.kind}.{'completed' if is_done else 'partial_image'}",
                b64_json=file,
                created_at=int(time.time()),
                index=i,
                partial_image_index=k,
                scale=f"{h}x{w}",
                size=self._size(is_done),
                seed=self.ticket.job.seeds[i],
                label=self._label(i),
                output_format=self.image_format.name,
                notes=self.notes,
            )
            for i, file in enumerate(self._encode(event), first)
        ]

    def _encode(self, event: Scale | Done) -> list[str]:
        images = self._images(event)
        if isinstance(event, Scale):
            return [self.image_format.encode(image) for image in images]
        return [self.image_format.encode(image, self.made.of_image(i)) for i, image in enumerate(images)]

    def _images(self, event: Scale | Done) -> list[Image.Image]:
        """Return the images of an event. Those of an edit are pasted into the given image, at full size at the end."""
        if self.plan is None:
            return event.pil_images
        return self.plan.preview(event.images) if isinstance(event, Scale) else self.plan.finish(event.images)

    def _size(self, is_done: bool) -> str:
        """Return the size of the images of an event as WIDTHxHEIGHT."""
        if self.plan is None:
            return size_of(self.engine.pipeline, self.schedule)
        height, width = self.plan.result_size if is_done else self.plan.placement.content_size
        return f"{width}x{height}"

    def _label(self, i: int) -> str:
        wanted = self.ticket.job.wanted[i]
        return wanted if isinstance(wanted, str) else self.engine.pipeline.classes.name_of(wanted)


async def while_connected(request: Request, awaited: Awaitable[T]) -> T:
    """Await a coroutine while the client is connected. If the client disconnects, cancel it and raise Cancelled."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    result, leaving = asyncio.ensure_future(awaited), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Cancelled("the client has disconnected")
        return result.result()
    finally:
        for task in (result, leaving):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def shown_scales(count: int | None, num_scales: int) -> Collection[int]:
    """Return the scales to send before the last one: at most ``count``, evenly spaced."""
    before = num_scales - 1
    if count is None or count >= before:
        return range(before)
    return [round((i + 1) * num_scales / (count + 1)) - 1 for i in range(count)]


def server_sent_event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
