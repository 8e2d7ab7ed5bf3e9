from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import cifar

from bench.__main__ import main
from bench.paper import baseline as baselines
from bench.paper import run as runs
from bench.paper.baseline import accuracy, baseline, file_name, given, untrained
from bench.paper.data import Images, Split, first, pack, read, require_published
from bench.paper.goals import broken, goals
from bench.paper.job import layers_of
from bench.paper.page import line, measured, note, published, table
from bench.paper.results import Results
from bench.paper.rows import CLASSES, CONVOLUTIONS, LINEAR, ROWS, SHAPES, Row, Training, named, training_of
from bench.paper.run import Wanted, images_of, run
from bench.service import check_claims
from jobs.problems import ProblemError
from worker.architectures.new import create

BY_NAME = {row.name: row for row in ROWS}
HEADLINE = BY_NAME["vgg16-mnist-32-classifier.0-classifier.3"]
AS_ONE = BY_NAME["vgg16-mnist-32-classifier.0+classifier.3"]
ON_CIFAR = BY_NAME["vgg16-cifar-10-classifier.0-classifier.3"]


def result(seed: int = 0, **change: Any) -> dict[str, Any]:
    return {
        "provenance": {
            "commit": "0123456789ab",
            "machine": {"cores": 2, "processor": "CPU", "gpu": None},
            "seeds": [seed],
        },
        "images": 20_000,
        "epochs": 3,
        "original": 18_874_368,
        "compressed": 420,
        "baseline": 0.991,
        "after_fit": 0.2,
        "final": 0.9925,
        "samples": 10_000,
        "interval_95": {"final": [0.9906, 0.994]},
        "seconds": {"job": 1234.5},
        **change,
    }


def test_rows_have_names_of_their_own_and_a_training_each() -> None:
    assert len(BY_NAME) == len(ROWS)
    assert {row.network for row in ROWS} == {"fc2", "lenet5", "alexnet", "zfnet", "vgg16"}
    for row in ROWS:
        assert training_of(row).images >= 20_000


def test_rows_are_taken_by_name_in_the_order_of_the_table() -> None:
    assert named([AS_ONE.name, HEADLINE.name]) == (HEADLINE, AS_ONE)
    with pytest.raises(ValueError, match=r"expected rows among .*fc2-mnist-fc1.*; got vgg19"):
        named(["vgg19", HEADLINE.name])


@pytest.mark.parametrize("small", [False, True], ids=["whole", "small"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_layers_of_a_row_are_in_its_network(row: Row, small: bool) -> None:
    with torch.device("meta"):
        model = untrained(row, small=small)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = [name for item in row.layers for name in ([item] if isinstance(item, str) else item)]
    for name in names:
        assert len(shapes[f"{name}.weight"]) >= 2
    if row.network == "vgg16" and set(names) == set(LINEAR["vgg16"]) and not small:
        assert [shapes[f"{name}.weight"] for name in names] == [(4096, 512), (4096, 4096)]
    assert model(torch.empty(2, *SHAPES[row.data], device="meta")).shape == (2, CLASSES[row.data])


def noise(count: int, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0) -> Images:
    """Random images, the same for training and test."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)
    split = Split(pixels, torch.arange(count) % 10)
    return Images(split, split)


def test_originals_that_are_trained_in_different_ways_are_kept_apart() -> None:
    trainings = [Training(100, 2), Training(100, 3), Training(100, 2, batch=64), Training(100, 2, rate=3e-4)]
    names = {file_name(HEADLINE, noise(4), training, 0) for training in trainings}
    names |= {file_name(HEADLINE, images, Training(100, 2), 0) for images in (noise(5), noise(4, seed=1))}
    names |= {file_name(HEADLINE, noise(4), Training(100, 2), 1), file_name(ON_CIFAR, noise(4), Training(100, 2), 0)}
    assert len(names) == 8
    # The rows of a network on the same data share one.
    assert file_name(HEADLINE, noise(4), Training(100, 2), 0) == file_name(AS_ONE, noise(4), Training(100, 2), 0)


def test_only_a_data_set_of_the_published_size_is_for_the_table() -> None:
    published_size = Split(torch.empty(50_000, 0), torch.empty(0)), Split(torch.empty(10_000, 0), torch.empty(0))
    require_published(Images(*published_size), "cifar-10")
    with pytest.raises(SystemExit, match=r"CIFAR-10: expected 50,000 and 10,000 images, got 7 and 7; --images N"):
        require_published(noise(7), "cifar-10")


def test_images_are_normalised_as_the_original_expects() -> None:
    images = noise(2)._replace(normalize={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 1.0]})
    found = images.as_floats(images.test.images)
    for channel, (mean, std) in enumerate([(0.5, 0.2), (0.4, 0.25), (0.3, 1.0)]):
        expected = (images.test.images[:, channel].double() / 255 - mean) / std
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-5, atol=1e-6)
    plain = noise(2)
    assert torch.equal(plain.as_floats(plain.test.images), plain.test.images.float() / 255)


def test_a_row_that_was_run_stands_beside_what_the_paper_says() -> None:
    assert line(HEADLINE, [result()]) == (
        "| VGG-16, MNIST padded to 32 x 32: classifier.0, classifier.3 | 18,874,368 | 424 | 420 | 99.10 | 20.00 "
        "| **99.25** | +0.15 | about 10^7 → 424, 90.17 → 91.74, +1.57 (CIFAR-10) | 1,234 |"
    )
    assert published(None) == "not in its abstract"


def test_several_seeds_give_the_median_and_the_spread() -> None:
    found = [result(0, final=0.9905), result(1, final=0.9925), result(2, final=0.9915)]
    assert "| **99.15 (99.05 to 99.25)** | +0.05 (-0.05 to +0.15) |" in line(HEADLINE, found)


def test_a_row_that_was_not_run_says_what_it_takes() -> None:
    assert "not run: give `--cifar-10 ARCHIVE`" in line(ON_CIFAR, [])
    assert "not run: give `--mnist FOLDER`" in line(HEADLINE, [])


def test_the_page_has_every_row_and_the_readme_those_that_were_run(tmp_path: Path) -> None:
    results = Results(tmp_path / "paper.json")
    assert note(results) == ""
    assert measured(results) == "None of them is stored yet."
    results.add(HEADLINE, 0, result())
    results.add(BY_NAME["fc2-mnist-fc1"], 0, result())
    assert len(table(results).splitlines()) == 2 + len(ROWS)
    assert measured(results).splitlines()[2:] == [
        line(BY_NAME["fc2-mnist-fc1"], [result()]),
        line(HEADLINE, [result()]),
    ]
    assert "trained on the same 20,000 images, the original for 3 epochs" in note(results)


def test_results_are_read_back_by_row_and_seed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "paper.json"
    for seed in (1, 0):
        Results(path).add(HEADLINE, seed, result(seed))
    Results(path).add(AS_ONE, 0, result())
    stored = Results(path)
    assert stored.find(HEADLINE, 1) == result(1)
    assert stored.find(HEADLINE, 2) is None
    assert stored.of(HEADLINE) == [result(0), result(1)]
    assert stored.of(AS_ONE) == [result()]
    assert [file.name for file in path.parent.iterdir()] == ["paper.json"]


def test_each_goal_is_said_to_be_reached_or_missed() -> None:
    assert goals(HEADLINE, result()) == (
        "18,874,368 -> 420 numbers (at most 424: reached), 99.10 -> 99.25 % "
        "(not below the original: reached, +0.15), 1,234 s; "
        "the paper: about 10^7 -> 424, 90.17 -> 91.74 %, +1.57 (CIFAR-10)"
    )
    worse = result(compressed=425, final=0.99)
    assert goals(HEADLINE, worse) == (
        "18,874,368 -> 425 numbers (at most 424: MISSED), 99.10 -> 99.00 % "
        "(not below the original: MISSED, -0.10), 1,234 s; "
        "the paper: about 10^7 -> 424, 90.17 -> 91.74 %, +1.57 (CIFAR-10)"
    )
    assert broken(HEADLINE, worse) == "expected at most 424 numbers, got 425"
    assert broken(HEADLINE, result(final=0.5)) is None


@pytest.mark.parametrize(("compressed", "failed"), [(424, 0), (425, 1)])
def test_what_is_stored_is_not_run_again_and_still_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: int, failed: int
) -> None:
    monkeypatch.setattr(runs, "PATH", tmp_path / "paper.json")
    Results(tmp_path / "paper.json").add(HEADLINE, 0, result(compressed=compressed))
    # The folder holds no data and CIFAR is not given: nothing can be run.
    assert len(run(Wanted({"mnist": tmp_path}, (HEADLINE, ON_CIFAR)))) == failed


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped.pt"])
def test_an_original_of_the_users_own_is_the_network_of_the_row(tmp_path: Path, kind: str) -> None:
    model = untrained(HEADLINE, small=True).eval()
    path = tmp_path / f"own.{kind}"
    if kind == "wrapped.pt":
        state = {f"module.{key}": value for key, value in model.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        (save_file if kind == "safetensors" else torch.save)(model.state_dict(), path)
    found = given(HEADLINE, path)
    images = torch.randn(3, *SHAPES[HEADLINE.data])
    assert (found.path, found.seconds) == (path, None)
    assert torch.equal(found.model(images), model(images))
    with pytest.raises(ProblemError, match="fc2"):
        given(BY_NAME["fc2-mnist-fc1"], path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    for name in ("own.pt", "own.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ProblemError):
            given(HEADLINE, tmp_path / name)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ProblemError, match="0 bytes"):
        given(HEADLINE, tmp_path / "empty.pt")


def test_the_last_convolutions_are_those_of_the_network() -> None:
    row = BY_NAME["vgg16-cifar-10-features.34-features.37-features.40"]
    with torch.device("meta"):
        assert layers_of(row, untrained(row)) == CONVOLUTIONS
        assert layers_of(row, create("vgg16", (3, 32, 32), 10)) == ("features.24", "features.26", "features.28")
        assert layers_of(AS_ONE, untrained(row)) == AS_ONE.layers


def test_results_of_an_own_original_are_stored_apart_and_by_its_content(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"1", b"1", b"2"), strict=True):
        path.write_bytes(content)
    first_one, same, other = (Wanted({}, (HEADLINE,), original=path) for path in paths)
    assert first_one.path == same.path
    assert len({first_one.path, other.path, Wanted({}).path}) == 3
    assert first_one.is_apart
    assert not Wanted({}).is_apart
    assert first_one.command(HEADLINE, 1) == (
        f"python -m bench paper --mnist FOLDER --rows {HEADLINE.name} --seeds 2 --original a"
    )
    normalised = replace(first_one, normalize={"mean": [0.5], "std": [0.25]})
    assert normalised.path != first_one.path
    assert normalised.command(HEADLINE, 0).endswith("--seeds 1 --original a --mean 0.5 --std 0.25")


def test_a_trained_original_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "OUT", tmp_path / "out")
    write_mnist(tmp_path, 60)
    row, images, training = BY_NAME["fc2-mnist-fc1"], read("mnist", {"mnist": tmp_path}), Training(60, 2, batch=20)
    new, kept = (baseline(row, images, training, 0, small=True) for _ in range(2))
    assert new.seconds is not None
    assert (kept.path, kept.seconds) == (new.path, None)
    state, again = new.model.state_dict(), kept.model.state_dict()
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_a_row_goes_through_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "OUT", tmp_path / "out")
    row = BY_NAME["vgg16-cifar-10-features.34-features.37-features.40"]
    own = create("vgg16", (3, 32, 32), 10, widths=[4] * 13, hidden=[8, 8]).eval()
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    archives = [
        archive(tmp_path, cifar.cifar10_python(cifar.ten_batches(count)), f"{count}.tar.gz") for count in (4, 5)
    ]
    wanted = Wanted(
        {"cifar-10": archives[0]},
        (row,),
        original=tmp_path / "own.safetensors",
        normalize={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 1.0]},
    )
    assert run(wanted) == []
    (found,) = Results(wanted.path).of(row)
    images = images_of(row, wanted)
    assert (found["images"], found["samples"], found["epochs"]) == (
        len(images.train.labels),
        len(images.test.labels),
        None,
    )
    assert (found["original"], [layer["name"] for layer in found["layers"]]) == (3 * 144, list(layers_of(row, own)))
    assert 0 < found["compressed"] <= row.parameters
    assert found["baseline"] == accuracy(own, images)
    # What is stored is of these images alone.
    assert Results(wanted.path).find(row, 0, images.digest()) == found
    other = replace(wanted, sources={"cifar-10": archives[1]})
    assert Results(other.path).find(row, 0, images_of(row, other).digest()) is None


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.pt").touch()
    row, own, none = ON_CIFAR.name, str(tmp_path / "own.pt"), str(tmp_path / "none.pt")
    refused = {
        ("--rows", row): "expected --cifar-10 ARCHIVE",
        ("--rows", row, "--cifar-10", "archive", "--original", none): "--original: expected a file",
        ("--cifar-10", "archive", "--original", own): "--original: expected a file, and --rows",
        ("--rows", row, "--cifar-10", "archive", "--mean", "0.5", "--std", "0.2"): "--mean: expected --original",
        ("--rows", row, "--cifar-10", "archive", "--original", own, "--mean", "0.5"): "--std with as many",
        ("--rows", row, "--cifar-10", "archive", "--original", own, "--std", "0.5"): "--std with as many",
    }
    for arguments, message in refused.items():
        monkeypatch.setattr("sys.argv", ["bench", "paper", *arguments])
        with pytest.raises(SystemExit, match=message):
            main()


def test_claims_are_compared_within_the_tolerance() -> None:
    check_claims({"accuracy": (0.9901, 0.9905)}, 0.001)
    with pytest.raises(SystemExit, match=r"accuracy: the report says 0.9905, got 0.9901"):
        check_claims({"accuracy": (0.9901, 0.9905)})
    with pytest.raises(SystemExit, match="got nan"):
        check_claims({"accuracy": (float("nan"), 0.9905)}, 0.001)


def write_idx(folder: Path, name: str, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    (folder / name).write_bytes(header + array.tobytes())


def write_mnist(folder: Path, count: int) -> np.ndarray:
    """Noise in the four files of MNIST; the pixels, which both parts have."""
    pixels = np.random.default_rng(0).integers(1, 256, (count, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        write_idx(folder, f"{part}-images-idx3-ubyte", pixels)
        write_idx(folder, f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return pixels


def test_mnist_is_padded_with_zeros_and_cut(tmp_path: Path) -> None:
    pixels = write_mnist(tmp_path, 6)
    images = read("mnist-32", {"mnist": tmp_path})
    assert tuple(images.train.images.shape) == (6, 1, 32, 32)
    assert np.array_equal(images.test.images[:, 0, 2:-2, 2:-2].numpy(), pixels)
    assert int(images.test.images.sum()) == int(pixels.astype(np.int64).sum())
    pack(images._replace(train=first(images.train, 4)), tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as packed:
        assert packed["train_x"].dtype == np.uint8
        assert packed["train_x"].shape == (4, 1, 32, 32)
        assert packed["train_y"].tolist() == [0, 1, 2, 3]
        assert packed["test_y"].tolist() == [0, 1, 2, 3, 4, 5]


def archive(folder: Path, files: Mapping[str, bytes], kind: str) -> Path:
    path = folder / f"archive.{kind}"
    path.write_bytes(cifar.packed(files, kind))
    return path


@pytest.mark.parametrize("version", [cifar.cifar10_python, cifar.cifar10_binary])
def test_both_versions_of_cifar_10_are_read(tmp_path: Path, version: Any) -> None:
    batches = cifar.ten_batches()
    images = read("cifar-10", {"cifar-10": archive(tmp_path, version(batches), "tar.gz")})
    train = [batches[name] for name in cifar.CIFAR10[:-1]]
    expected = np.concatenate([batch.pixels for batch in train])
    assert np.array_equal(images.train.images.reshape(-1, 3072).numpy(), expected)
    assert images.train.labels.tolist() == [label for batch in train for label in batch.labels]
    assert images.test.labels.tolist() == list(batches["test_batch"].labels)


def test_another_archive_than_the_row_takes_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, cifar.cifar100_python(cifar.hundred_batches()), "tar.gz")
    assert len(read("cifar-100", {"cifar-100": path}).train.labels) == 30
    with pytest.raises(SystemExit, match="expected CIFAR-10, got cifar_python with 100 classes"):
        read("cifar-10", {"cifar-10": path})
