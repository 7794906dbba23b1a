"""Download files from the Hugging Face hub into its local cache."""

from __future__ import annotations

from pathlib import Path

from nextscale.errors import InputError


def fetch(repository: str, file: str) -> Path:
    """Return the local copy of a file, downloaded on first use.

    Raises:
        InputError: the file is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # hides its messages about retries
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # no network, no such file, no permission
        raise InputError(
            f"cannot download {file} from {repository} ({type(error).__name__}): "
            "no network? If you have the two files, pass them as vae.pth,var.pth"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
