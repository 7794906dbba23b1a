"""Download files from the Hugging Face hub into its local cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nextscale.errors import InputError
from nextscale.runtime.progress import is_terminal


def fetch(repository: str, file: str) -> Path:
    """Return the local copy of a file, downloaded on first use.

    Raises:
        InputError: the file is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    try:
        with quiet(), progress_on_terminals():
            return Path(hf_hub_download(repository, file))
    except Exception as error:  # no network, no such file, no permission
        raise InputError(
            f"cannot download {file} from {repository} ({type(error).__name__}): "
            "no network? If you have the two files, pass them as vae.pth,var.pth"
        ) from error


def fetch_folder(repository: str, patterns: Sequence[str]) -> Path:
    """Return a local folder with the files of a repository that match the patterns, downloaded on first use.

    Raises:
        InputError: the files are not in the cache and cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    try:
        with quiet(), progress_on_terminals():
            return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # no network, no such repository, no permission
        raise InputError(
            f"cannot download {repository} from the hub ({type(error).__name__}), and there is no folder of this name: "
            "no network?"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager that hides the messages of huggingface_hub about retries."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def progress_on_terminals() -> Iterator[None]:
    """Context manager without the hub's progress bars if standard error is not a terminal.

    The environment variable HF_HUB_DISABLE_PROGRESS_BARS takes precedence.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    changes = (
        "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ and not is_terminal() and not are_progress_bars_disabled()
    )
    if changes:
        disable_progress_bars()
    try:
        yield
    finally:
        if changes:
            enable_progress_bars()
