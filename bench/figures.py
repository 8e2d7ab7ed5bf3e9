"""Figures as SVG files: the same numbers always give the same file."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# Without the salt and with a date, each drawing would be another file.
matplotlib.rcParams.update({"svg.hashsalt": "adtn", "svg.fonttype": "none"})


def save(figure: Figure, path: Path) -> None:
    """Write a figure.

    Args:
        figure: Drawn.
        path: Of the SVG file.
    """
    figure.savefig(path, metadata={"Date": None})
