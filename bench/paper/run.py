"""Every row that is missing, stored as soon as it has finished."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adtn_client import Client
from adtn_client.errors import ClientError
from bench.paper.baseline import OUT, baseline
from bench.paper.data import Images, first, read
from bench.paper.goals import broken, goals
from bench.paper.job import check, compress
from bench.paper.results import Result, Results
from bench.paper.rows import ROWS, Row, training_of
from bench.record import RESULTS, provenance
from bench.service import running_service
from jobs.problems import ProblemError

PATH = RESULTS / "paper.json"


@dataclass(frozen=True)
class Wanted:
    """What is to be run.

    Args:
        sources: Where data are: see `bench.paper.data.read`. Rows without data are left out.
        rows: All by default.
        seeds: Of original and job.
        images: Of the training images, and of the test images; None for as many as the rows say. Few make a trial with
            narrow networks that is stored apart.
    """

    sources: Mapping[str, Path]
    rows: Sequence[Row] = ROWS
    seeds: Sequence[int] = (0,)
    images: int | None = None

    @property
    def path(self) -> Path:
        """Where results are stored."""
        return PATH if self.images is None else OUT / "trial" / f"{self.images}.json"

    def runs(self) -> Iterator[tuple[Row, int]]:
        """Rows with data, each with every seed."""
        for row in self.rows:
            if row.source in self.sources:
                yield from ((row, seed) for seed in self.seeds)


def run(wanted: Wanted) -> list[str]:
    """Run what is missing, and print what was asked of each row.

    A row that fails does not keep the others from being run; the next call tries it again.

    Returns:
        Why a row failed, or does not keep its promise.
    """
    results = Results(wanted.path)
    failed = []
    missing = [pair for pair in wanted.runs() if results.find(*pair) is None]
    if missing:
        with tempfile.TemporaryDirectory() as name, running_service(Path(name) / "service") as url, Client(url) as client:
            for row, seed in missing:
                try:
                    results.add(row, seed, measured(client, row, seed, wanted, Path(name)))
                except (ClientError, ProblemError, SystemExit) as error:  # SystemExit: a report that was refused
                    failed.append(f"{row.title}, seed {seed}: {error}")
                    print(failed[-1], flush=True)
                else:
                    _tell(row, seed, results.find(row, seed))
    ...
