"""Showing how far something is: a bar on a terminal, lines elsewhere."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from adtn_client.commands import output

# A line is written each time this much of the whole is done.
LINE_STEP = 0.1


class Display(Protocol):
    """Where progress is shown."""

    def show(self, label: str, fraction: float, note: str = "") -> None:
        """Show that `fraction` (0 to 1) of `label` is done."""


class Bar:
    """A bar on stderr that is redrawn in place; a new label starts a new bar."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._label: str | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, label: str, fraction: float, note: str = "") -> None:
        """Redraw the bar."""
        if label != self._label:
            self._label = label
            self._task = self._progress.add_task(output.markup_free(label), total=1.0, note="")
        self._progress.update(self._task, completed=fraction, note=output.markup_free(note))


class Lines:
    """Lines on stderr: one for each new label, one for each new first word of the note, and one for each tenth."""

    def __init__(self) -> None:
        self._shown: tuple[str, str] | None = None
        self._next_fraction = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, label: str, fraction: float, note: str = "") -> None:
        """Write a line if there is news."""
        # What follows the first word may change several times a second, such as a loss.
        now = (label, note.partition(":")[0])
        if now != self._shown or fraction >= self._next_fraction:
            output.say(f"{label} {fraction:4.0%}{'  ' if note else ''}{note}")
            self._shown = now
            self._next_fraction = min(fraction + LINE_STEP, 1.0) if fraction < 1.0 else 2.0


def display() -> AbstractContextManager[Display]:
    """A bar if a person watches a terminal, else lines."""
    return Bar() if sys.stdout.isatty() and sys.stderr.isatty() else Lines()
