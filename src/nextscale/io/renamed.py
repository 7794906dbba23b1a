"""Old names in files, and their current names."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "picture": "image",
    "pictures": "images",
    "picture_sha256": "image_sha256",
    "number_of_pictures": "number_of_images",
    "pictures_per_second": "images_per_second",
}
"""Keys of runs, caches, logs, reports and PNG metadata written before 30 November 2026."""


def with_current_names(value: Any) -> Any:
    """Return the content of a JSON file with every old key replaced by the current one, at any depth."""
    if isinstance(value, dict):
        return {RENAMED.get(key, key): with_current_names(item) for key, item in value.items()}
    return [with_current_names(item) for item in value] if isinstance(value, list) else value
