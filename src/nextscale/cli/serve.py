"""``nextscale serve``."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from nextscale.cli.models import Dtype, MemoryFlags, ModelOptions
from nextscale.cli.text_flags import TextEncoderFlags
from nextscale.errors import InputError
from nextscale.families.sources import only_images
from nextscale.pipeline import Pipeline
from nextscale.runtime.extras import check_installed, needed
from nextscale.runtime.progress import say
from nextscale.web.limits import Limits

log = logging.getLogger(__name__)
KEY = "NEXTSCALE_API_KEY"
NEEDED = ("fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Serve a model: a web page (the studio) and an HTTP API compatible with OpenAI's images API.

    If the environment variable NEXTSCALE_API_KEY is set, clients must send its value as the API key, and browsers
    as the password.

    Example: nextscale serve --model starter --port 8000
    """

    dtype: Dtype = "float32"
    """Precision of matrix products and convolutions."""
    text: TextEncoderFlags = field(default_factory=TextEncoderFlags)
    """The text encoder of text-to-image models."""
    memory: MemoryFlags = field(default_factory=MemoryFlags)
    """Use less memory. With --offload, one batch runs at a time."""
    host: str = "127.0.0.1"
    """Address to listen on. 127.0.0.1 accepts connections from this machine only, 0.0.0.0 from everywhere."""
    port: int = 8000
    """Port to listen on. 0 chooses a free one."""
    studio: bool = True
    """Serve the studio in addition to the API."""
    compare: tuple[str, ...] = ()
    """Additional models for the Compare tab of the studio."""
    hosts: tuple[str, ...] = ()
    """Additional host names to accept in requests, such as example.com behind a proxy. If --host is not a
    loopback address, all host names are accepted."""
    cors_origin: tuple[str, ...] = ()
    """Web sites that may call the API from a browser, such as https://example.com. * allows all."""
    access_log: Literal["off", "plain", "json"] = "off"
    """Write a line about each request to standard error, as text or as JSON. With json, errors are JSON lines too."""
    limits: Limits = field(default_factory=Limits)
    """Limits of the server."""
    seed: int | None = None
    """Seed of the generator that chooses a seed for requests without one. By default, these seeds differ in every
    run."""


def read_key() -> str | None:
    """Read the API key from the environment.

    Raises:
        InputError: the key begins or ends with a space. HTTP headers drop such spaces.
    """
    key = os.environ.get(KEY)
    if key and key != key.strip():
        raise InputError(f"{KEY} must not begin or end with a space: HTTP headers drop it")
    return key or None


def check(options: Options) -> None:
    """Raise InputError for flags without effect, origins with a path, and host names with a port."""
    if options.compare and not options.studio:
        raise InputError("--compare needs the studio: it cannot be combined with --no-studio")
    for origin in options.cors_origin:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise InputError(
                f"an origin is * or a URL without a path, such as https://example.com:8443, not {origin!r}"
            )
    for host in options.hosts:
        if not re.fullmatch(r"[^/\s:]+|[0-9a-fA-F:]+", host):
            raise InputError(f"a host name has no scheme, port or path, such as example.com, not {host!r}")


def run(options: Options) -> None:
    for name in NEEDED:
        with needed(name, "serve"):
            importlib.import_module(name)
    if options.studio:
        check_installed("gradio", "serve")
    from nextscale.web.engine import Engine
    from nextscale.web.logs import set_up
    from nextscale.web.server import LOOPBACK, address_of, build_app, is_loopback, open_socket, serve
    from nextscale.web.upload_quota import private_folder

    key, scales = read_key(), options.scales or ""
    check(options)
    with ExitStack() as stack:
        listener = stack.enter_context(open_socket(options.host, options.port))
        models = [options.model, *(options.compare if options.studio else ())]
        where = options.device, options.dtype, options.schedule()
        pipelines = [Pipeline.from_pretrained(model, *where, **vars(options.memory)) for model in models]
        for pipeline in pipelines:
            only_images(pipeline.tokenizer, "serve")
        for pipeline in [p for p in pipelines if p.family.takes == "prompt"] or pipelines[:1]:
            options.text.use(pipeline, options.model, log.warning)
        text = {name: getattr(options.text, name) for name in ("text_encoder", "text_dtype")}
        more = {"seed": options.seed, "text": text}
        engine, *others = [Engine(p, model, options.limits, **more) for p, model in zip(pipelines, models, strict=True)]
        own = is_loopback(options.host)
        hosts = {*LOOPBACK, options.host.lower(), *map(str.lower, options.hosts)} if own else None
        folder = stack.enter_context(private_folder()) if options.studio else None
        app = build_app(engine, key, hosts, options.cors_origin, scales, folder)
        if options.studio:
            with needed("gradio", "serve"):  # not earlier: Gradio reads the name of its folder when it is imported
                importlib.import_module("gradio")
            from nextscale.web.studio.studio import build_studio, mount_studio

            mount_studio(app, build_studio(engine, others, scales), "/")
        if key is None and not own:
            say(f"warning: {options.host} is not a loopback address and there is no API key: set {KEY} to require one")
        set_up(options.access_log, sys.stderr)
        line = f"serving {options.model} at {address_of(listener)}"
        serve(app, [engine, *others], listener, on_ready=lambda: print(line, flush=True))
