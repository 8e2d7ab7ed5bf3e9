"""When Python looks for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Run a block without collections: while torch is imported they take a seventh of the time, and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
