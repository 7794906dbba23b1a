"""Requests made up from the OpenAPI description of an API, good ones and broken ones, and every answer checked.

No answer may be a 5xx or hold a traceback; each has a status, a type and a form that the description tells of; what
breaks the description is refused.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


FOR_TEXT = ("negative_prompt", "positive_phrase", "aspect", "budget")
IMAGE, MASK = as_png(Image.new("RGB", (32, 32), "red")), as_png(Image.new("L", (32, 32), 255))


def fuzz(app: Any, cases: int, first_seed: int = 0) -> Counter[int]:
    """How often each status came.

    Args:
        cases: for each route and kind, good or broken.

    Raises:
        schemathesis.errors.SchemathesisError, ExceptionGroup or AssertionError: an answer that is not as it must be.
    """
    statuses: Counter[int] = Counter()
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    for found in schema.get_all_operations():
        operation = found.ok()
        good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        run(good, CHECKS, cases, first_seed, statuses)
        if operation.body:
            run(good.map(with_sense), CHECKS, cases, first_seed, statuses)
            broken = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            run(broken, [*CHECKS, negative_data_rejection], cases, first_seed, statuses)
    return statuses


def with_sense(case: Any) -> Any:
    """A request whose fields the description allows, with what only the model knows put right: it gets images."""
    if isinstance(case.body, dict):
        case.body |= {"prompt": "", "size": "auto", "n": 1, "response_format": "b64_json"}
        for name in ("model", *FOR_TEXT, "cfg", "temperature", "guidance_blocks"):
            case.body.pop(name, None)
        if "image" in case.body:
            case.body |= {
                "image": IMAGE,
                "mask": MASK,
                "box": "",
                "mode": "inpaint",
                "scales_kept": None,
                "upscale": False,
            }
    return case


def run(strategy: Any, checks: list[Any], cases: int, first_seed: int, statuses: Counter[int]) -> None:
    @seed(first_seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[Phase.generate],
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        response = case.call()
        statuses[response.status_code] += 1
        assert "Traceback" not in response.text and 'File "' not in response.text
        case.validate_response(response, checks=checks)

    call: Callable[[], None] = send
    call()
