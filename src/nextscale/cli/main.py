"""``nextscale VERB ...``: import the module of the verb and run it. Nothing heavy is imported before that."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import sys

from nextscale.errors import InputError, is_out_of_memory
from nextscale.runtime.interrupt import INTERRUPTED, InterruptBlocked, Interruptible, end_on_interrupt, was_raised

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

VERBS = {
    "sample": ("nextscale.cli.sample", "generate images"),
    "edit": ("nextscale.cli.edit", "regenerate a part of an image, or upscale a small image"),
    "reconstruct": ("nextscale.cli.reconstruct", "encode and decode images, and show each scale"),
    "tokenize": ("nextscale.cli.tokenize", "encode a data set into a cache of tokens for training"),
    "train tokenizer": ("nextscale.cli.train_tokenizer", "train an image tokenizer"),
    "train transformer": ("nextscale.cli.train_transformer", "train a transformer on the tokens of a tokenizer"),
    "evaluate": ("nextscale.cli.evaluate", "evaluate a model: FID, Inception Score, precision, recall and more"),
    "evaluate reference": (
        "nextscale.cli.evaluate_reference",
        "compute the statistics of real images that evaluation compares with",
    ),
    "evaluate sweep": ("nextscale.cli.evaluate_sweep", "evaluate a model with several sampling settings"),
    "evaluate classifier": ("nextscale.cli.evaluate_classifier", "train a classifier for evaluation"),
    "evaluate reader": ("nextscale.cli.evaluate_reader", "train a reader of scenes for evaluate --prompts"),
    "evaluate towers": ("nextscale.cli.evaluate_towers", "train networks that match images and captions"),
    "plot": ("nextscale.cli.plot", "plot training curves, and compare the loss with a reference"),
    "scaling run": ("nextscale.cli.scaling_run", "train transformers of several sizes for scaling laws"),
    "scaling fit": ("nextscale.cli.scaling_fit", "fit scaling laws to runs of several sizes, and plot them"),
    "bench sample": ("nextscale.cli.bench_sample", "measure the speed of sampling"),
    "bench decode": ("nextscale.cli.bench_decode", "measure the speed of decoding"),
    "bench train": ("nextscale.cli.bench_train", "measure the speed of training steps"),
    "bench load": ("nextscale.cli.bench_load", "measure the time from loading a model to the first image"),
    "convert": ("nextscale.cli.convert", "convert official checkpoints to a nextscale folder, and back"),
    "serve": ("nextscale.cli.serve", "serve the studio (browser) and an HTTP API"),
    "info": ("nextscale.cli.info", "show size, schedule, parameters and FLOPs of a model"),
}

"""Each verb with its module and its description."""

ALIASES = {"train var": "train transformer"}
"""Former names of verbs."""

FORMER_FLAGS = ("--pictures", "--validate-pictures", "--batch-pictures", "--queue-pictures", "--request-pictures")
"""Former names of flags, which now end with images."""

TRAINING = (
    "train tokenizer",
    "train transformer",
    "train var",
    "scaling run",
    "evaluate classifier",
    "evaluate reader",
    "evaluate towers",
    "bench train",
)
"""Verbs that run in a process whose memory is set up for training."""


def usage() -> str:
    """Return the text of ``nextscale --help``."""
    lines = [f"  nextscale {verb:<20} {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "Next-scale image generation (VAR): generate, edit, train and evaluate.",
            "",
            *lines,
            "",
            "Run nextscale VERB --help for the flags of a verb. Example:",
            "  nextscale sample --labels dress hat --num-images 20 --out samples.png",
        ]
    )


def command() -> None:
    """Entry point of ``nextscale`` and ``python -m nextscale``. Exits with 130 after Ctrl-C."""
    end_on_interrupt()
    if " ".join(sys.argv[1:3]) in TRAINING:
        restart_with_less_fragmentation()
    try:
        main()
    except Exception:
        if not was_raised():
            raise
        sys.exit(INTERRUPTED)  # an error that KeyboardInterrupt caused, such as the end of a process that loads data


def restart_with_less_fragmentation() -> None:
    """Restart this process with memory settings for training; see `nextscale.runtime.allocator`."""
    restart = importlib.import_module("nextscale.runtime.allocator").restart_with_less_fragmentation
    with InterruptBlocked():  # and a starting interpreter would answer Ctrl-C with a traceback
        restart()


def main(arguments: list[str] | None = None) -> None:
    """Run a verb. Exits with 0 after --help, and with 2 on invalid input."""
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
        verb = ALIASES.get(verb, verb)
        if verb in VERBS:
            run(verb, [current_flag(argument) for argument in arguments[length:]])
            return
    family = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    if family and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print("\n".join(f"nextscale {name:<20} {VERBS[name][1]}" for name in family))
        sys.exit(0 if len(arguments) > 1 else 2)
    fail(f"unknown verb {' '.join(arguments[: 2 if family else 1])!r}: expected one of {', '.join(family or VERBS)}")


def run(verb: str, arguments: list[str]) -> None:
    """Parse the flags of a verb and run it. Invalid input is reported in one sentence."""
    print_any_file_name()
    atexit.register(gc.freeze)  # skips the final garbage collection, which takes half a second
    parsing, module = (import_all(name) for name in ("nextscale.cli.parsing", VERBS[verb][0]))
    try:
        with Interruptible():
            module.run(parsing.parse(module.Options, verb, arguments))
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail("not enough memory: use fewer images at once")
    except BrokenPipeError:  # the process that reads the output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def current_flag(argument: str) -> str:
    """Return an argument with the current name of its flag: ``--images=a`` for ``--pictures=a``."""
    flag, equals, value = argument.partition("=")
    flag = flag.replace("pictures", "images") if flag.replace("_", "-") in FORMER_FLAGS else flag
    return f"{flag}{equals}{value}"


def print_any_file_name() -> None:
    """Let the output accept file names that are not UTF-8. Standard output gets their bytes as they are."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=errors)


def import_all(name: str) -> ModuleType:
    """Import a module with garbage collection disabled, which saves a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def fail(sentence: str) -> None:
    """Print an error message and exit with 2."""
    print(f"nextscale: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command()
