"""``nextscale serve``."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec

from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.runtime.progress import say
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
    seed: int | None = None  # type: ignore[assignment]
    """Of the seeds that requests without one get, in the order in which they come; left out, chance."""


def read_key() -> str | None:
    """The key to ask for, from the environment.

    Raises:
        InputError: one that no client can send, as headers lose the spaces around a value.
    """
    key = os.environ.get(KEY)
    if key and key != key.strip():
        raise InputError(f"{KEY} begins or ends with a space, which no client can send")
    return key or None


def check(options: Options) -> None:
    """Raises InputError for flags that would silently do nothing."""
    if options.compare and not options.studio:
        raise InputError("--compare is for the studio: it does not go with --no-studio")
    for origin in options.cors_origin:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise InputError(
                f"a web page's origin is * or like https://example.com:8443, without a path, not {origin!r}"
            )
    for host in options.hosts:
        if not re.fullmatch(r"[^/\s:]+|[0-9a-fA-F:]+", host):
            raise InputError(f"a server's name is like example.com, without scheme, port and path, not {host!r}")


def run(options: Options) -> None:
    for name in (*NEEDED, "gradio")[: len(NEEDED) + options.studio]:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed: run pip install 'nextscale[serve]'")
    from nextscale.web.engine import Engine
    from nextscale.web.server import LOOPBACK, address_of, build_app, is_loopback, open_socket, serve
    from nextscale.web.upload_quota import private_folder

    key, scales = read_key(), options.scales or ""
    check(options)
    with ExitStack() as stack:
        listener = stack.enter_context(open_socket(options.host, options.port))
        models = [options.model, *(options.compare if options.studio else ())]
        pipelines = [Pipeline.from_pretrained(m, options.device, options.dtype, options.schedule()) for m in models]
        engine, *others = [
            Engine(p, model, options.limits, seed=options.seed) for p, model in zip(pipelines, models, strict=True)
        ]
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
