"""The pool of processes in a worker."""

from typing import Any

from celery.bootsteps import StartStopStep

LOOK_S = 0.2


class PromptReplacement(StartStopStep):  # type: ignore[misc]  # celery has no types
    """Starts a process in the place of one that has ended at once, not up to five seconds later.

    Celery looks for ended processes when the pipe from one closes. The kernel closes it just before the process has
    ended for whoever looks, who then often comes too early, and the next look is five seconds later. With a process for
    each job, jobs would wait for it.
    """

    requires = ("celery.worker.components:Pool",)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Called by Celery when the worker is about to wait for messages."""
        hub.call_repeatedly(LOOK_S, worker.pool.maintain_pool)
