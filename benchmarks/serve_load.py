"""Load test of the server: lost or wrong images, the gain of batching, memory and log over time.

    python benchmarks/serve_load.py                      # 64 clients with 5 requests each, then the same one by one
    python benchmarks/serve_load.py --idle 500           # the same, while 500 other connections send nothing
    python benchmarks/serve_load.py --soak 30            # 30 minutes of valid and invalid requests, with memory use
    python benchmarks/serve_load.py --model FOLDER       # another model, class-conditional or text-to-image

The script starts ``nextscale serve`` itself. Every image of the concurrent requests must equal, pixel by pixel, the
image of the same request sent alone. Some are also compared with the pipeline. Requests to a text-to-image model have
prompts of different lengths and images of several sizes. A second server with a short queue must answer excess
requests with 429 and Retry-After, and serve the others. The server's log on standard error must stay small.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

import nextscale as ns

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PROMPTS = (
    "a fox in the snow",
    "two red cars on a wet street at night",
    "a bee",
    "a very old man reads a large book under an apple tree, in the warm light of an autumn morning, oil on canvas",
)
SIZES = 3
"""Number of sizes that requests to a text-to-image model mix."""
CHECKED = 8
"""Number of images compared with the pipeline."""
SOAK_CLIENTS = 6
FULL_BATCH = 16
"""Images per batch, the default of the server."""
WARM_MINUTES = 5
MEMORY_GROWTH = 1.1
"""Largest allowed ratio of memory at the end to memory after `WARM_MINUTES`."""
LOG_BYTES = 100_000
"""Largest allowed size of a server's log."""


class Client:
    """A client of a server."""

    def __init__(self, address: str):
        self.address = address

    def send(
        self, path: str, data: bytes | None = None, kind: str = "application/json", read: int = -1
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Return (status, body, headers). Read ``read`` bytes of the body, then close the connection."""
        request = urllib.request.Request(self.address + path, data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                return response.status, response.read(read), {k.lower(): v for k, v in response.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}

    def generate(self, **body: Any) -> tuple[int, bytes, Mapping[str, str]]:
        return self.send(GENERATIONS, json.dumps(body).encode())

    def edit(self, image: bytes, read: int = -1, **fields: Any) -> tuple[int, bytes, Mapping[str, str]]:
        part = '--edge\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
        body = b"".join(part.format(name, "").encode() + f"{value}\r\n".encode() for name, value in fields.items())
        body += part.format("image", '; filename="a.png"').encode() + image + b"\r\n--edge--\r\n"
        return self.send(EDITS, body, "multipart/form-data; boundary=edge", read)


class Running(NamedTuple):
    """A server that is running."""

    client: Client
    process: subprocess.Popen[str]
    log: Path
    """What it writes to standard error."""


@contextmanager
def server(model: str, *arguments: object, idle: int = 0) -> Iterator[Running]:
    """Run a server. It must exit with code 0 after SIGTERM, and its log must stay small.

    Args:
        idle: number of connections that stay open all the time and send nothing.
    """
    command = [sys.executable, "-m", "nextscale", "serve", "--no-studio", "--port", "0", "--model", model]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert process.stdout is not None
        try:
            client = Client(process.stdout.readline().split()[-1])
            with idle_connections(client.address, idle):
                yield Running(client, process, log)
            process.send_signal(signal.SIGTERM)
            if code := process.wait(120):
                sys.exit(f"the server exited with code {code}: {log.read_text()[-2000:]}")
            size = log.stat().st_size
            print(f"the server's log has {size:,} bytes")
            if size > LOG_BYTES:
                sys.exit(f"expected at most {LOG_BYTES:,} bytes")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    """Keep connections open that send nothing. Those that the server closes are opened again at once."""
    host, port = address.removeprefix("http://").split(":")
    stop, standing = threading.Event(), selectors.DefaultSelector()
    opened = 0

    def add() -> None:
        nonlocal opened
        standing.register(socket.create_connection((host, int(port))), selectors.EVENT_READ)
        opened += 1

    def keep() -> None:
        while not stop.is_set():
            for key, _ in standing.select(0.2):
                standing.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                with suppress(ConnectionError):
                    add()

    for _ in range(count):
        add()
    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        left = [key.fileobj for key in standing.get_map().values()]
        for connection in left:
            connection.close()  # type: ignore[union-attr]
        standing.close()
    if count:
        print(f"{len(left)} idle connections stood at the end; {opened:,} were opened in all")


def at_once(count: int, client: Callable[[int], object]) -> float:
    """Run clients in threads and return the seconds until all have finished."""
    threads = [threading.Thread(target=client, args=(i,)) for i in range(count)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - begun


def image_in(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(json.loads(body)["data"][0]["b64_json"])))


class Wishes(NamedTuple):
    """What requests ask for."""

    prompts: Sequence[str]
    """Names of classes or, for text-to-image models, `PROMPTS`."""
    sizes: Sequence[str]

    @classmethod
    def of(cls, client: Client) -> Wishes:
        """Return what the model of a server takes."""
        (model,) = json.loads(client.send("/v1/models")[1])["data"]
        prompts = model["classes"] if model["takes"] == "class" else PROMPTS
        return cls(prompts, model["sizes"][:SIZES])

    def body(self, i: int) -> dict[str, str]:
        """Return prompt and size of request ``i``."""
        return {"prompt": self.prompts[i % len(self.prompts)], "size": self.sizes[i % len(self.sizes)]}


def load(model: str, clients: int, requests: int, idle: int) -> None:
    """Send requests from many clients at once, then the same requests one after the other."""
    pipeline, total = ns.Pipeline.from_pretrained(model, dtype="float32"), clients * requests
    with server(model, "--queue-images", max(clients, 1), idle=idle) as (client, *_):
        wishes = Wishes.of(client)

        def request(i: int) -> tuple[int, bytes]:
            status, body, _ = client.generate(seed=i, **wishes.body(i))
            return status, image_in(body).tobytes() if status == 200 else body

        request(total)  # warm-up
        crowd: dict[int, tuple[int, bytes]] = {}
        together = at_once(
            clients, lambda c: crowd.update((i, request(i)) for i in range(c * requests, (c + 1) * requests))
        )
        begun = time.monotonic()
        alone = {i: request(i) for i in range(total)}
        apart = time.monotonic() - begun
    lost = [i for i in range(total) if crowd.get(i, (0, b""))[0] != 200]
    wrong = [i for i in range(total) if i not in lost and crowd[i] != alone[i]]
    for i in range(min(CHECKED, total)):
        wish = wishes.body(i)
        if pipeline([wish["prompt"]], seed=[i], size=wish["size"]).images[0].tobytes() != alone[i][1]:
            wrong.append(i)
    print(f"{clients} clients x {requests} requests: {len(lost)} lost, {len(wrong)} wrong of {total}")
    print(f"{total / together:.2f} images per second at once, {total / apart:.2f} one after the other: ", end="")
    print(f"{apart / together:.2f} times faster")
    if lost or wrong:
        sys.exit(f"lost: {lost}, wrong: {wrong}")


def overload(model: str, clients: int, room: int, idle: int) -> None:
    """Send more requests at once than the queue holds."""
    with server(model, "--queue-images", room, "--batch-images", 2, idle=idle) as (client, *_):
        outcomes: Counter[int] = Counter()
        wishes = Wishes.of(client)
        without_advice: list[int] = []

        def ask(i: int) -> None:
            status, _, headers = client.generate(seed=i, **wishes.body(i))
            outcomes[status] += 1
            if status == 429 and int(headers.get("retry-after", 0)) < 1:
                without_advice.append(i)

        at_once(clients, ask)
    print(f"{clients} clients, queue of {room}: {outcomes[200]} images, {outcomes[429]} times 429 with Retry-After")
    if set(outcomes) != {200, 429} or without_advice:
        sys.exit(f"expected only images and 429, got {dict(outcomes)}; without Retry-After: {without_advice}")


def resident(process: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process in MiB. Linux only."""
    line = next(x for x in Path(f"/proc/{process.pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def soak(model: str, minutes: float, idle: int) -> None:
    """Send random valid and invalid requests, and print memory use and the size of the log every minute.

    It starts with full batches, so that heaps reach their largest size at the beginning and not at a random time.
    """
    file = io.BytesIO()
    Image.effect_noise((300, 200), 80).convert("RGB").save(file, "PNG")
    image = file.getvalue()
    outcomes: Counter[str] = Counter()
    with server(model, idle=idle) as (client, process, log):
        end = time.monotonic() + 60 * minutes
        prompt = Wishes.of(client).prompts[0]
        kinds: dict[str, tuple[Callable[[random.Random], tuple[int, bytes, Any]], Sequence[int]]] = {
            "images": (
                lambda r: client.generate(prompt=prompt, n=r.randint(1, 4), cfg=r.choice((2, 4))),
                (200, 429, 504),
            ),
            "a stream": (lambda r: client.generate(prompt=prompt, stream=True), (200, 429)),
            "a stream left": (
                lambda r: client.send(
                    GENERATIONS, json.dumps({"prompt": prompt, "n": 4, "stream": True}).encode(), read=100
                ),
                (200, 429),
            ),
            "an edit": (lambda r: client.edit(image, box="0,0,0.5,1"), (200, 429, 504)),
            "half a file": (lambda r: client.edit(image[: r.randrange(len(image))], box="0,0,0.5,1"), (400,)),
            "noise": (lambda r: client.edit(r.randbytes(10_000), box="0,0,0.5,1"), (400,)),
            "a flood": (lambda r: client.edit(bytes(11 * 2**20), box="0,0,0.5,1"), (413,)),
            "no size": (lambda r: client.generate(prompt=prompt, size=str(r.random())), (400,)),
            "no JSON": (lambda r: client.send(GENERATIONS, r.randbytes(100)), (400,)),
            "no route": (lambda r: client.send(f"/{r.random()}"), (404,)),
            "metrics": (lambda r: client.send("/metrics"), (200,)),
        }

        def client_loop(number: int) -> None:
            choice = random.Random(number)
            while time.monotonic() < end:
                what = choice.choice(list(kinds))
                ask, expected = kinds[what]
                try:
                    status = ask(choice)[0]
                except OSError:  # the server closed the connection before the whole body was sent
                    status = 413 if what == "a flood" else 0
                outcomes[f"{what}: {status}{'' if status in expected else ', UNEXPECTED'}"] += 1

        client_loops = [threading.Thread(target=client_loop, args=(i,)) for i in range(SOAK_CLIENTS)]
        at_once(SOAK_CLIENTS, lambda i: client.generate(prompt=prompt, n=FULL_BATCH))  # the largest batch
        used = [resident(process)]
        print(f"{used[0]:6.0f} MiB at the start, after {SOAK_CLIENTS} full batches", flush=True)
        for thread in client_loops:
            thread.start()
        while (rest := end - time.monotonic()) > 0:
            time.sleep(min(60, rest))
            used.append(resident(process))
            passed, size = f"{len(used) - 1} min, {outcomes.total():,} requests", log.stat().st_size
            print(f"{used[-1]:6.0f} MiB after {passed}; a log of {size:,} bytes", flush=True)
        for thread in client_loops:
            thread.join()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:7,} x {outcome}")
    if any("UNEXPECTED" in outcome for outcome in outcomes):
        sys.exit("there were unexpected answers")
    warm = used[min(WARM_MINUTES, len(used) - 1)]
    if used[-1] > MEMORY_GROWTH * warm:
        sys.exit(f"memory grew from {warm:.0f} MiB after {WARM_MINUTES} min to {used[-1]:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Load test of the server.")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=5, help="requests per client, one after the other")
    parser.add_argument("--room", type=int, default=8, help="length of the queue in the overload test")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="run only the soak test, for this many minutes")
    parser.add_argument("--idle", type=int, default=0, help="connections that stay open and send nothing")
    options = parser.parse_args()
    if options.soak:
        soak(options.model, options.soak, options.idle)
    else:
        load(options.model, options.clients, options.requests, options.idle)
        overload(options.model, options.clients, options.room, options.idle)


if __name__ == "__main__":
    main()
