"""``nextscale VERB ...``: find the verb's file, hand over. Nothing heavy is imported before the verb is known."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import sys
from types import ModuleType
from typing import Any

from nextscale.errors import InputError, is_out_of_memory
from nextscale.runtime.allocator import restart_with_less_fragmentation

# verb: (module, what it does)
VERBS = {
    "sample": ("nextscale.cli.sample", "draw images"),
    "edit": ("nextscale.cli.edit", "draw parts of an image anew, or the details of a small one"),
    "reconstruct": ("nextscale.cli.reconstruct", "encode images and decode them again, scale by scale"),
    "tokenize": ("nextscale.cli.tokenize", "encode a data set into a cache of tokens, to train on"),
    "train tokenizer": ("nextscale.cli.train_tokenizer", "train an image tokenizer on images"),
    "train var": ("nextscale.cli.train_transformer", "train a transformer on a tokenizer's tokens"),
    "evaluate": ("nextscale.cli.evaluate", "measure a model: FID, Inception Score, precision, recall and more"),
    "evaluate reference": ("nextscale.cli.evaluate_reference", "statistics of real images, to measure against"),
    "evaluate sweep": ("nextscale.cli.evaluate_sweep", "measure a model at several settings of sampling"),
    "evaluate classifier": ("nextscale.cli.evaluate_classifier", "train a classifier to judge drawn images by"),
    "plot": ("nextscale.cli.plot", "draw the curves of training runs, and say whether the loss is normal"),
    "scaling run": ("nextscale.cli.scaling_run", "train a ladder of sizes on one cache of tokens"),
    "scaling fit": ("nextscale.cli.scaling_fit", "fit scaling laws to runs of several sizes, and draw them"),
    "bench sample": ("nextscale.cli.bench_sample", "time drawing, beside what the machine can do"),
    "bench decode": ("nextscale.cli.bench_decode", "time decoding tokens"),
    "bench train": ("nextscale.cli.bench_train", "time training steps of a transformer"),
    "bench load": ("nextscale.cli.bench_load", "time loading a model, up to the first image"),
    "convert": ("nextscale.cli.convert", "official checkpoints to a folder of ours, and back"),
    "serve": ("nextscale.cli.serve", "the studio in a browser, and an HTTP API"),
    "info": ("nextscale.cli.info", "sizes, schedule, parameters and work of a model"),
}

TRAINING = ("train tokenizer", "train var", "scaling run", "evaluate classifier", "bench train")


def usage() -> str:
    lines = [f"  nextscale {verb:<20} {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "Next-scale image generation (VAR): draw, train, look inside.",
            "",
            *lines,
            "",
            "nextscale VERB --help says more. For example:",
            "  nextscale sample --labels dress hat --num-images 20 --out samples.png",
        ]
    )


def command() -> None:
    """A process of its own: ``nextscale``, or ``python -m nextscale``."""
    if " ".join(sys.argv[1:3]) in TRAINING:
        restart_with_less_fragmentation()
    main()


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exit code 0 on success, 2 on bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    if arguments == ["--version"]:
        from nextscale import __version__

        print(__version__)
        return
    for length in (2, 1):
        verb = " ".join(arguments[:length])
        if verb in VERBS:
            run(verb, arguments[length:])
            return
    family = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    if family and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print("\n".join(f"nextscale {name:<20} {VERBS[name][1]}" for name in family))
        sys.exit(0 if len(arguments) > 1 else 2)
    fail(f"unknown verb {' '.join(arguments[: 2 if family else 1])!r}: expected one of {', '.join(family or VERBS)}")


def run(verb: str, arguments: list[str]) -> None:
    """Parse the verb's flags and call it; a user's mistake becomes one sentence."""
    atexit.register(gc.freeze)  # what is left then goes with the process: to look for garbage in it takes half a second
    parsing, module = (import_all(name) for name in ("nextscale.cli.parsing", VERBS[verb][0]))
    try:
        module.run(parsing.parse(module.Options, verb, arguments))
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail("not enough memory: draw or train on fewer images at once")
    except BrokenPipeError:  # whoever read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def parse(tyro: ModuleType, options: type, verb: str, arguments: list[str]) -> Any:
    """Return a verb's options. An InputError that a nested dataclass raises stays one: tyro would print it in a box."""
    written = io.StringIO()
    try:
        with contextlib.redirect_stderr(written):
            config = (tyro.conf.OmitArgPrefixes,)
            return tyro.cli(options, prog=f"nextscale {verb}", args=arguments, config=config)
    except SystemExit as stop:
        error = stop.__context__
        while error is not None and not isinstance(error, InputError):
            error = error.__context__
        if error is not None:
            raise error from None
        print(written.getvalue(), end="", file=sys.stderr)
        raise


def import_all(name: str) -> ModuleType:
    """Import a module without looking for garbage on the way, or in it later: there is none, and looking takes a tenth
    of the time."""
    looking = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if looking:
            gc.enable()


def fail(sentence: str) -> None:
    print(f"nextscale: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command()
