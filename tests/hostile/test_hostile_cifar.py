"""Archives of CIFAR-10 and CIFAR-100 that lack something, hold it twice or are cut short."""

import numpy as np
import pytest
from hostile_files import Refuse, tar_bytes
from support import cifar
from support.cifar import Batch

from worker.sandbox import Limits

TEN = cifar.ten_batches(2)
HUNDRED = cifar.hundred_batches()
BINARY = cifar.cifar10_binary(TEN)
PYTHON = cifar.cifar10_python(TEN)
B, P = "cifar-10-batches-bin", "cifar-10-batches-py"


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not path.endswith(f"/{name}")}


def with_label(label: int) -> bytes:
    return cifar.records(TEN["test_batch"].pixels, [0, label])


CASES = {
    "a batch is missing": (without(PYTHON, "data_batch_4"), "the archive lacks data_batch_4"),
    "no test batch": (without(PYTHON, "test_batch"), "lacks test_batch"),
    "a binary batch is missing": (without(BINARY, "data_batch_1.bin"), "lacks data_batch_1.bin"),
    "CIFAR-100 without its test": (without(cifar.cifar100_python(HUNDRED), "test"), "lacks test"),
    "binary CIFAR-100 without training": (without(cifar.cifar100_binary(HUNDRED), "train.bin"), "lacks train.bin"),
    "two of one name": (PYTHON | {"copy/data_batch_2": PYTHON[f"{P}/data_batch_2"]}, "data_batch_2 once"),
    "one batch under two names": (
        PYTHON | {f"{P}/data_batch_2": PYTHON[f"{P}/data_batch_1"]},
        "data_batch_2 holds the same images as data_batch_1",
    ),
    "the test batch among the training ones": (
        BINARY | {f"{B}/test_batch.bin": BINARY[f"{B}/data_batch_5.bin"]},
        "test_batch.bin holds the same images as data_batch_5.bin",
    ),
    "two versions at once": (PYTHON | BINARY, "files of CIFAR-10 (Python version) and of CIFAR-10 (binary version)"),
    "a record too short": (BINARY | {f"{B}/data_batch_2.bin": BINARY[f"{B}/data_batch_2.bin"][:-1]}, "6145 bytes"),
    "records of CIFAR-100": (
        BINARY | {f"{B}/data_batch_2.bin": cifar.records(TEN["test_batch"].pixels, [1, 2], [1, 2])},
        "records of 3073 bytes, got 6148",
    ),
    "an empty batch": (BINARY | {f"{B}/data_batch_2.bin": b""}, "at least one image"),
    "a label too high": (BINARY | {f"{B}/data_batch_2.bin": with_label(10)}, "labels from 0 to 9, image 1 has '10'"),
    "a fine label too high": (
        cifar.cifar100_binary(HUNDRED | {"test": Batch(HUNDRED["test"].pixels, [100] * 10, [0] * 10)}),
        "labels from 0 to 99, image 0 has '100'",
    ),
    "names of too few classes": (BINARY | {f"{B}/batches.meta.txt": b"cat\ndog\n"}, "names of 10 classes"),
    "names that cannot be shown": (
        BINARY | {f"{B}/batches.meta.txt": b" ".join([b"cat\x1b[31m"] * 10)},
        "names of 10 classes",
    ),
    "no names at all": (PYTHON | {f"{P}/batches.meta": cifar.python2_pickle({"a": 1})}, "names of 10 classes"),
}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(("files", "said"), CASES.values(), ids=CASES.keys())
def test_archives_that_do_not_hold_together_are_refused(refuse: Refuse, files: dict[str, bytes], said: str, kind: str):
    problem = refuse(cifar.packed(files, kind), "dataset", "cifar")
    assert problem.code == "dataset_invalid"
    assert said in problem.detail


@pytest.mark.parametrize("files", [PYTHON, BINARY, cifar.cifar100_python(HUNDRED)])
@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_gzip_cut_short_is_refused(refuse: Refuse, files: dict[str, bytes], share: float):
    data = cifar.packed(files, "tar.gz")
    assert refuse(data[: int(len(data) * share)], "dataset", "cifar.tar.gz").code == "truncated_file"


@pytest.mark.parametrize("name", [f"/{P}/data_batch_5", f"../{P}/data_batch_5", f"{P}/../../data_batch_5"])
def test_a_batch_outside_the_archive_is_none(refuse: Refuse, name: str):
    files = without(PYTHON, "data_batch_5") | {name: PYTHON[f"{P}/data_batch_5"]}
    assert "lacks data_batch_5" in refuse(cifar.packed(files, "tar"), "dataset", "cifar.tar").detail


def test_links_are_not_followed(refuse: Refuse):
    data = tar_bytes(without(PYTHON, "data_batch_5"), links={f"{P}/data_batch_5": "/etc/passwd"})
    assert "lacks data_batch_5" in refuse(data, "dataset", "cifar.tar").detail


def test_a_bomb_is_refused_while_it_is_listed(refuse: Refuse):
    files = PYTHON | {"padding": bytes(2**25)}
    limits = Limits(expanding_bytes=2**20, expansion=10)
    assert refuse(cifar.packed(files, "tar.gz"), "dataset", "cifar.tar.gz", limits).code == "resource_limit"


def test_pixels_beyond_the_memory_of_the_child_are_refused(refuse: Refuse):
    large = np.arange(20_000 * 3072, dtype=np.uint64).astype(np.uint8).reshape(20_000, 3072)
    files = BINARY | {f"{B}/data_batch_1.bin": cifar.records(large, [0] * 20_000)}
    limits = Limits(memory_bytes=2**24, memory_per_byte=0)
    assert refuse(cifar.packed(files, "tar.gz"), "dataset", "cifar.tar.gz", limits).code == "resource_limit"
