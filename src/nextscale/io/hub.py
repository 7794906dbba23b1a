"""Files from the Hugging Face hub, kept in its local cache."""

from __future__ import annotations

from pathlib import Path

from nextscale.errors import InputError


def fetch(repository: str, file: str) -> Path:
    """The local copy of a file, downloaded on first use.

    Raises:
        InputError: it is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its retries are no news: our sentence says what came of them
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # no network, no such file, no right to read: one answer for all
        raise InputError(
            f"cannot download {file} from {repository} ({type(error).__name__}): "
            "no network? With the two files at hand, give them as vae.pth,var.pth"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
