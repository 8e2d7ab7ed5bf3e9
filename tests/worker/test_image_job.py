"""A job on a folder of images: from the upload to a verified accuracy."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.cifar import packed
from support.pictures import encoded
from support.worker_jobs import add_file, artifact, run_once

from jobs import files, records
from jobs.database import Database
from worker.resources import Resources


def images_of_digits(count: int) -> dict[str, bytes]:
    """Digits as grey PNG files of several sizes, a folder each."""
    digits = load_digits()
    found = {}
    for number, (pixels, label) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        side = 16 + number % 5
        image = Image.fromarray((pixels * 15.9).astype("u1")).resize((side, side))
        found[f"digits/{label}/{number}.png"] = encoded(image, "PNG")
    return found


@pytest.fixture
def dataset_id(resources: Resources, tmp_path: Path) -> str:
    """A zip of images, uploaded and inspected."""
    path = tmp_path / "digits.zip"
    path.write_bytes(packed(images_of_digits(200), "zip"))
    return add_file(resources, path, "dataset")


def run(resources: Resources, checkpoint_id: str, dataset_id: str, **settings: Any) -> Any:
    """Run a short job and return its record."""
    wanted = {
        "checkpoint": checkpoint_id,
        "architecture": "lenet5",
        "dataset": dataset_id,
        "compression": {"layers": ["fc1"], "structure": {"depth": 1}},
        "fit": {"steps": 2},
        "fine_tune": {"epochs": 1},
    }
    return run_once(resources, wanted | settings)


def test_images_of_several_sizes_are_inspected(db: Database, dataset_id: str):
    file = files.get(db, "local", dataset_id)
    assert (file.status, file.format) == ("ready", "images")
    assert file.summary is not None
    assert file.summary["splits"] == {"train": 160, "test": 40}
    assert file.summary["shape"] == [1, None, None]
    assert file.summary["class_names"] == [str(label) for label in range(10)]


def test_a_job_resizes_them_and_a_fresh_process_finds_the_same_accuracy(
    resources: Resources, checkpoint_id: str, dataset_id: str, tmp_path: Path
):
    normalize = {"mean": [0.3], "std": [0.4]}
    row = run(resources, checkpoint_id, dataset_id, image={"resize": [8, 8]}, normalize=normalize)
    assert row.status == "succeeded", row.error
    assert row.report["verified"]["fresh_process"] is True
    assert row.report["accuracy"]["samples"] == 40
    assert row.report["settings"]["image"] == {"resize": [8, 8]}
    read = row.report["dataset"]
    assert (read["format"], read["samples"]) == ("images", {"train": 160, "test": 40})
    split, sizes = read["notes"]
    assert split == "no folders train and test: 20% of each class are the test split"
    assert "16 x 16 pixels" in sizes
    card = artifact(resources, row.id, "card", tmp_path).read_text()
    assert f"- The data: {split}." in card


def test_a_job_without_a_size_says_what_is_missing(resources: Resources, checkpoint_id: str, dataset_id: str):
    row = run(resources, checkpoint_id, dataset_id)
    assert row.status == "failed"
    assert row.error["code"] == "dataset_mismatch"
    assert row.error["errors"][0]["pointer"] == "/image/resize"
    assert "16 x 16 pixels" in row.error["detail"]


@pytest.mark.usefixtures("unverified")
def test_a_job_with_augmentation_is_the_same_again(resources: Resources, checkpoint_id: str, dataset_id: str):
    wanted = {"image": {"resize": [8, 8]}, "augment": {"crop": 1, "flip": True, "rotate": 5, "stretch": 0.1}}
    first, again, plain = (
        run(resources, checkpoint_id, dataset_id, **settings)
        for settings in (wanted, wanted, {"image": wanted["image"]})
    )
    assert first.status == "succeeded", first.error
    digests = [stored_digest(resources, row.id) for row in (first, again, plain)]
    assert digests[0] == digests[1] != digests[2]


def stored_digest(resources: Resources, job_id: str) -> str:
    """Of the dense artifact's bytes."""
    with resources.db.read() as session:
        (dense,) = [found for found in records.artifacts(session, [job_id])[job_id] if found.kind == "dense"]
    return dense.sha256
