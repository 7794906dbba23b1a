"""How the events of the studio run."""

from __future__ import annotations

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Arguments of every event: the studio shows progress itself, and the events are no part of the API."""
DIRECT: dict[str, Any] = QUIET | {"queue": False}
"""Arguments of an event that answers at once, outside Gradio's queue.

Leaving a field by clicking a button triggers two events. If both were queued, the first to complete could close the
stream of messages before the second is registered, whose results would never arrive.
"""
