"""``nextscale serve``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec

from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.progress import say
from nextscale.web.limits import Limits

KEY = "NEXTSCALE_API_KEY"
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


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
    compare: tuple[str, ...] = ()
    """More models, to compare with in the studio."""
    hosts: tuple[str, ...] = ()
    """More names that the server goes by, such as example.com behind a proxy. At a public address, any is taken."""
    cors_origin: tuple[str, ...] = ()
    """Web pages elsewhere that may use the API from a browser, such as https://example.com; * is all."""
    limits: Limits = field(default_factory=Limits)


def run(options: Options) -> None:
    for name in (*NEEDED, "gradio")[: len(NEEDED) + options.studio]:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed: run pip install 'nextscale[serve]'")
    from nextscale.web.engine import Engine
    from nextscale.web.server import LOOPBACK, address_of, build_app, is_loopback, open_socket, serve
    from nextscale.web.space import private_folder

    key, scales = os.environ.get(KEY) or None, options.scales or ""
    with ExitStack() as stack:
        listener = stack.enter_context(open_socket(options.host, options.port))
        models = [options.model, *(options.compare if options.studio else ())]
        pipelines = [Pipeline.from_pretrained(m, options.device, options.dtype, options.schedule()) for m in models]
        engine, *others = [Engine(p, model, options.limits) for p, model in zip(pipelines, models, strict=True)]
        own = is_loopback(options.host)
        hosts = {*LOOPBACK, options.host.lower(), *map(str.lower, options.hosts)} if own else None
        folder = stack.enter_context(private_folder()) if options.studio else None
        app = build_app(engine, key, hosts, options.cors_origin, scales, folder)
        if options.studio:
            from nextscale.web.studio.studio import build_studio, mount_studio

            mount_studio(app, build_studio(engine, others, scales), "/")
        if key is None and not own:
            say(f"warning: {options.host} may be reached by others, and no key is set: set {KEY} to ask for one")
        line = f"serving {options.model} at {address_of(listener)}"
        serve(app, [engine, *others], listener, on_ready=lambda: print(line, flush=True))
