"""A model that is in memory only while it is used."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from torch import nn

ModelT = TypeVar("ModelT", bound=nn.Module)


class OnDemand(Generic[ModelT]):
    """A model that is prepared when it is asked for, and freed when nobody uses it any more. Threads may share it."""

    def __init__(self, prepare: Callable[[], ModelT]):
        self._prepare = prepare
        self._lock = threading.Lock()
        self._shared: Callable[[], ModelT | None] = lambda: None

    def get(self) -> ModelT:
        """Return the model. It exists as long as the caller keeps it."""
        with self._lock:
            model = self._shared()
            if model is None:
                model = self._prepare()
                self._shared = weakref.ref(model)
            return model
