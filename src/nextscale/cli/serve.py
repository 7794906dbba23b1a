"""``nextscale serve``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.progress import say
from nextscale.web.limits import Limits

KEY = "NEXTSCALE_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """The studio in a browser, and an HTTP API in the OpenAI form.

    The environment variable NEXTSCALE_API_KEY, if set, is the key that both ask for.

    Example: nextscale serve --model starter --port 8000
    """

    host: str = "127.0.0.1"
    """Address to serve at. The default is reached from this machine alone; 0.0.0.0 from everywhere."""
    port: int = 8000
    """0 picks a free one."""
    studio: bool = True
    """The studio; the API is there with or without."""
    hosts: tuple[str, ...] = ()
    """More names that the server goes by, such as example.com behind a proxy. At a public address, any is taken."""
    cors_origin: tuple[str, ...] = ()
    """Web pages elsewhere that may use the API from a browser, such as https://example.com; * is all."""
    limits: Limits = field(default_factory=Limits)


def run(options: Options) -> None:
    try:
        from nextscale.web.engine import Engine
        from nextscale.web.server import LOOPBACK, address_of, build_app, is_loopback, open_socket, serve
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: run pip install 'nextscale[serve]'") from error
    key = os.environ.get(KEY) or None
    listener = open_socket(options.host, options.port)
    pipeline = Pipeline.from_pretrained(options.model, options.device, options.dtype, options.schedule())
    engine = Engine(pipeline, options.model, options.limits)
    hosts = {*LOOPBACK, options.host.lower(), *map(str.lower, options.hosts)} if is_loopback(options.host) else None
    app = build_app(engine, key, hosts, options.cors_origin, options.scales or "")
    if key is None and not is_loopback(options.host):
        say(f"warning: {options.host} may be reached by others, and no key is set: set {KEY} to ask for one")
    print(f"serving {options.model} at {address_of(listener)}", flush=True)
    serve(app, engine, listener)
