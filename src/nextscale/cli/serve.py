"""``nextscale serve``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """The studio in a browser, and an HTTP API in the OpenAI form.

    Example: nextscale serve --model starter --port 8000
    """

    host: str = "127.0.0.1"
    """Address to serve at. The default is reached from this machine alone; 0.0.0.0 from everywhere."""
    port: int = 8000
    """0 picks a free one."""


def run(options: Options) -> None:
    try:
        from nextscale.web.engine import Engine
        from nextscale.web.server import address_of, build_app, open_socket, serve
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: run pip install 'nextscale[serve]'") from error
    listener = open_socket(options.host, options.port)
    pipeline = Pipeline.from_pretrained(options.model, options.device, options.dtype, options.schedule())
    engine = Engine(pipeline, options.model)
    print(f"serving {options.model} at {address_of(listener)}", flush=True)
    serve(build_app(engine), engine, listener)
