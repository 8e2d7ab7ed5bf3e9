"""The stored results: one JSON file, written anew as soon as a row has finished."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.paper.rows import Row

Result = dict[str, Any]


class Results:
    """What was measured, by row and seed.

    The file is a JSON object: the first seed of a row has the row's name as its key, the others the seed behind it.

    Args:
        path: Of the file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Result] = json.loads(path.read_text()) if path.exists() else {}

    def find(self, row: Row, seed: int, data: str | None = None) -> Result | None:
        """The result of a row with a seed, if it was run.

        Args:
            row: Of the table.
            seed: Of the run.
            data: Digest of the images that it must be of; None for any.
        """
        found = self._found.get(_key(row, seed))
        if found is not None and data is not None and found["data"] != data:
            return None
        return found

    def of(self, row: Row) -> Sequence[Result]:
        """All results of a row, in the order of their seeds."""
        found = [result for key, result in self._found.items() if f"{key}-seed-".startswith(f"{row.name}-seed-")]
        return sorted(found, key=lambda result: int(result["provenance"]["seeds"][0]))

    def add(self, row: Row, seed: int, result: Result) -> None:
        """Keep a result. The file is replaced as a whole, so that it is never half written."""
        self._found[_key(row, seed)] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(self._found, indent=2) + "\n")
        unfinished.rename(self.path)


def _key(row: Row, seed: int) -> str:
    return row.name if seed == 0 else f"{row.name}-seed-{seed}"
