"""Every row that is missing, stored as soon as it has finished."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adtn_client import Client
from adtn_client.errors import ClientError
from bench.paper.baseline import OUT, baseline, given
from bench.paper.data import Images, Normalize, first, read, require_published
from bench.paper.goals import broken, goals
from bench.paper.job import ENCODED, check, compress
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
        original: A checkpoint in the place of those that are trained here; what it leads to is stored apart.
        normalize: What that original expects of its inputs.
    """

    sources: Mapping[str, Path]
    rows: Sequence[Row] = ROWS
    seeds: Sequence[int] = (0,)
    images: int | None = None
    original: Path | None = None
    normalize: Normalize | None = None

    @property
    def path(self) -> Path:
        """Where results are stored."""
        if self.original is not None:
            content = self.original.read_bytes() + repr(self.normalize).encode()
            return OUT / "given" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
        return PATH if self.images is None else OUT / "trial" / f"{self.images}.json"

    @property
    def is_apart(self) -> bool:
        """Whether results are no part of the table."""
        return self.images is not None or self.original is not None

    def command(self, row: Row, seed: int) -> str:
        """What makes a run again."""
        parts = ["python -m bench paper", row.option, "--rows", row.name, "--seeds", str(seed + 1)]
        parts += [] if self.images is None else ["--images", str(self.images)]
        parts += [] if self.original is None else ["--original", self.original.name]
        for name, numbers in (self.normalize or {}).items():
            parts += [f"--{name}", ",".join(map(str, numbers))]
        return " ".join(parts)

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
    failed = _run_missing(wanted, results)
    for row, seed in wanted.runs():
        if (found := _stored(wanted, results, row, seed)) is not None:
            print(f"{row.title}, seed {seed}: {goals(row, found)}")
            if (reason := broken(row, found)) is not None:
                failed.append(f"{row.title}, seed {seed}: {reason}")
    return failed


def _run_missing(wanted: Wanted, results: Results) -> list[str]:
    """Add the results that are not there yet; what went wrong."""
    missing = [pair for pair in wanted.runs() if _stored(wanted, results, *pair) is None]
    failed: list[str] = []
    if not missing:
        return failed
    with tempfile.TemporaryDirectory() as name, running_service(Path(name) / "service") as url, Client(url) as client:
        for row, seed in missing:
            print(f"{row.title}, seed {seed}: started", flush=True)
            try:
                results.add(row, seed, measured(client, row, seed, wanted, Path(name)))
            except (ClientError, ProblemError, OSError, SystemExit) as error:  # SystemExit: what was checked is not so
                failed.append(f"{row.title}, seed {seed}: {error}")
                print(failed[-1], flush=True)
    return failed


def _stored(wanted: Wanted, results: Results, row: Row, seed: int) -> Result | None:
    """The result of a run, if there is one; outside of the table, of these very images."""
    if not wanted.is_apart or results.find(row, seed) is None:
        return results.find(row, seed)
    return results.find(row, seed, images_of(row, wanted).digest())


def measured(client: Client, row: Row, seed: int, wanted: Wanted, folder: Path) -> Result:
    """Train or take the original, run the job, check what is downloaded."""
    images = images_of(row, wanted)
    training = training_of(row)
    if wanted.original is None:
        original = baseline(row, images, training, seed, small=wanted.images is not None)
    else:
        original = given(row, wanted.original)
    report, seconds = compress(client, row, original, images, seed, folder)
    check(original, images, report, folder)
    accuracy, encoded = report["accuracy"], report["parameters"]["encoded"]
    return {
        "provenance": provenance(wanted.command(row, seed), [seed]),
        "data": images.digest(),
        "images": len(images.train.images),
        "epochs": training.epochs if wanted.original is None else None,
        "original": encoded["original"],
        "compressed": encoded["compressed"],
        "layers": report["parameters"]["layers"],
        "bytes": report["bytes"]["artifacts"][ENCODED],
        **{name: accuracy[name] for name in ("baseline", "after_fit", "final", "samples", "interval_95")},
        "seconds": {"baseline": original.seconds, "job": seconds, **report["seconds"]},
        "fine_tuning": report["fine_tuning"],
    }


def images_of(row: Row, wanted: Wanted) -> Images:
    """As many images as the row is trained on; of a trial, as many as it takes."""
    found = read(row.data, wanted.sources)._replace(normalize=wanted.normalize)
    if wanted.images is not None:
        return found._replace(train=first(found.train, wanted.images), test=first(found.test, wanted.images))
    if not wanted.is_apart:
        require_published(found, row.data)
    return found._replace(train=first(found.train, training_of(row).images))
