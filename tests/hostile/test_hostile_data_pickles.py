"""Pickles in the place of a data set's batches: none of them runs, whatever it asks for, and none takes much memory."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import Marker, Opener, Refuse
from support import cifar

BATCHES = cifar.ten_batches(2)
GOOD = cifar.cifar10_python(BATCHES)
PLACE = "cifar-10-batches-py/data_batch_3"
START = b"\x80\x02}q\x01("


def archive(hostile: bytes, place: str = PLACE) -> bytes:
    """A good archive but for one batch."""
    return cifar.packed(GOOD | {place: hostile}, "tar.gz")


def touching(marker: Path) -> dict[str, bytes]:
    """Pickles that would create the marker if anything of them ran, by the opcodes that they use."""
    command = f"touch {marker}".encode()
    argument = b"U" + bytes([len(command)]) + command
    text = b"\x8c" + bytes([len(command)]) + command
    return {
        "GLOBAL and REDUCE": b"\x80\x02cposix\nsystem\n" + argument + b"\x85R.",
        "protocol 0": b"cposix\nsystem\n(S'" + command + b"'\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text + b"\x85R.",
        "INST": b"(S'" + command + b"'\niposix\nsystem\n.",
        "OBJ": b"\x80\x02(cposix\nsystem\n" + argument + b"o.",
        "NEWOBJ": b"\x80\x02cposix\nsystem\n" + argument + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cposix\nsystem\n" + text + b"\x85}\x92.",
        "BUILD": b"\x80\x02cnumpy\nndarray\n}U\x0c__setstate__cposix\nsystem\nsb" + argument + b"b.",
        "EXT1": b"\x80\x02\x82\x01" + argument + b"\x85R.",
        "EXT2": b"\x80\x02\x83\x01\x00" + argument + b"\x85R.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00" + argument + b"\x85R.",
        "PERSID": b"Pcposix\nsystem\n.",
        "BINPERSID": b"\x80\x02" + argument + b"Q.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "in a list of labels": START + b"U\x06labels](cposix\nsystem\n" + argument + b"\x85Reu.",
        "as dtype": b"\x80\x02cnumpy\ndtype\ncposix\nsystem\n\x85R.",
        "as class": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncposix\nsystem\nK\x00\x85U\x01b\x87R.",
        "eval through a codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00evil\x86R.",
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
        "pickle.loads": b"\x80\x02cpickle\nloads\n" + argument + b"\x85R.",
        "__reduce__ of Python": pickle.dumps({"data": Marker(marker)}, 2),
        "__reduce__ under protocol 5": pickle.dumps({"data": Marker(marker)}, 5),
        "open for writing": pickle.dumps({"data": Opener(marker)}, 4),
        "an array of objects": pickle.dumps({"data": np.array([Marker(marker)], object), "labels": [1]}, 2),
        "after a good batch": GOOD[PLACE] + b"cposix\nsystem\n" + argument + b"\x85R.",
        "before a good batch": GOOD[PLACE][:-1] + b"0cposix\nsystem\n" + argument + b"\x85R.",
    }


@pytest.mark.parametrize("name", touching(Path("x")))
def test_no_pickle_runs(refuse: Refuse, tmp_path: Path, name: str):
    marker = tmp_path / "m"
    problem = refuse(archive(touching(marker)[name]), "dataset", "cifar-10-python.tar.gz")
    assert problem.code == "dataset_invalid"
    assert "data_batch_3" in problem.detail
    assert not marker.exists()


@pytest.mark.parametrize("name", ["GLOBAL and REDUCE", "INST", "__reduce__ of Python"])
def test_no_pickle_of_class_names_runs(refuse: Refuse, tmp_path: Path, name: str):
    marker = tmp_path / "m"
    hostile = archive(touching(marker)[name], "cifar-10-batches-py/batches.meta")
    assert refuse(hostile, "dataset", "cifar-10-python.tar.gz").code == "dataset_invalid"
    assert not marker.exists()


def test_some_of_these_pickles_would_run_elsewhere(tmp_path: Path):
    """Or they would prove nothing."""
    for name in ("GLOBAL and REDUCE", "protocol 0", "STACK_GLOBAL", "INST", "OBJ", "__reduce__ of Python"):
        marker = tmp_path / name.replace(" ", "_")
        pickle.loads(touching(marker)[name])
        assert marker.exists(), name


def long_text(opcode: bytes, length: bytes) -> bytes:
    return START + opcode + length + b"abc"


NESTED = {
    "lists in lists": START + b"U\x01a" + b"]" * 5000 + b"a" * 4999 + b"su.",
    "lists that hold themselves": START + b"U\x01a]q\x02(h\x02h\x02eu.",
    "ten to the nine": START + b"U\x01a](K\x01K\x01eq\x00" + b"](h\x00h\x00eq\x00" * 30 + b"u.",
    "tuples in tuples": START + b"U\x01a)" + b"\x85" * 5000 + b"u.",
    "dicts in dicts": START + b"U\x01a}U\x01b}ssu.",
    "a tuple as key": START + b")K\x01u.",
    "a list as key": START + b"]K\x01u.",
    "no dict": b"\x80\x02](K\x01e.",
    "an array alone": pickle.dumps(np.zeros(4, np.uint8), 2),
}


@pytest.mark.parametrize("hostile", NESTED.values(), ids=NESTED.keys())
def test_nested_values_are_refused(refuse: Refuse, hostile: bytes):
    assert refuse(archive(hostile), "dataset", "cifar.tar.gz").code == "dataset_invalid"


TEXT = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
BOMBS = {
    "one text encoded again and again": b"\x80\x02}X\x01\x00\x00\x00t"
    + TEXT
    + b"s"
    + b"X\x01\x00\x00\x00ac_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Rs" * 1000
    + b".",
    "marks": b"\x80\x02" + b"(" * 100 + b".",
    "stack": b"\x80\x02" + b"K\x01" * 20_000 + b".",
    "opcodes": b"\x80\x02}(U\x01a]" + b"K\x01a" * 1_000_001 + b"u.",
    "memo": b"\x80\x04}" + b"\x94" * 1_000_001 + b".",
}


@pytest.mark.parametrize("hostile", BOMBS.values(), ids=BOMBS.keys())
def test_pickles_that_hold_too_much_are_refused(refuse: Refuse, hostile: bytes):
    assert refuse(archive(hostile), "dataset", "cifar.tar.gz").code == "resource_limit"


DAMAGED = {
    "BINSTRING": long_text(b"T", struct.pack("<i", 2**31 - 1)),
    "BINSTRING below 0": long_text(b"T", struct.pack("<i", -1)),
    "BINUNICODE": long_text(b"X", struct.pack("<I", 2**32 - 1)),
    "BINUNICODE8": long_text(b"\x8d", struct.pack("<Q", 2**60)),
    "BINBYTES8": long_text(b"\x8e", struct.pack("<Q", 2**64 - 1)),
    "BYTEARRAY8": long_text(b"\x96", struct.pack("<Q", 2**40)),
    "LONG4": long_text(b"\x8b", struct.pack("<i", 2**31 - 1)),
    "a line without end": START + b"c" + b"x" * 100_000,
    "a number of 5000 digits": b"I" + b"9" * 5000 + b"\n.",
    "a memo that is not there": START + b"h\x07.",
    "an empty stack": b"\x80\x02R.",
    "a mark that is not there": b"\x80\x02e.",
    "no end": START,
    "nothing": b"",
    "an unknown opcode": b"\x80\x02\xff.",
    "half a pickle": GOOD[PLACE][:3000],
}


@pytest.mark.parametrize("hostile", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_pickles_are_refused(refuse: Refuse, hostile: bytes):
    assert refuse(archive(hostile), "dataset", "cifar.tar.gz").code == "truncated_file"


def batch(**change: Any) -> bytes:
    value = {"batch_label": "x", "labels": [1, 2], "data": np.zeros((2, 3072), np.uint8)} | change
    return cifar.python2_pickle({key: entry for key, entry in value.items() if entry is not None})


def shaped(old: bytes, new: bytes) -> bytes:
    data = batch()
    assert old in data
    return data.replace(old, new, 1)


WRONG = {
    "no pixels": (batch(data=None), "expected 'data'"),
    "pixels that are text": (batch(data="abc"), "got bytes"),
    "another length": (batch(data=np.zeros((2, 3071), np.uint8)), "(2, 3071)"),
    "one dimension": (batch(data=np.zeros(3072, np.uint8)), "(3072,)"),
    "another dtype": (batch(data=np.zeros((2, 3072), np.float32)), "'f4'"),
    "no labels": (batch(labels=None), "'labels' as a list"),
    "fine labels": (batch(labels=None, fine_labels=[1, 2]), "'labels' as a list"),
    "labels that are text": (batch(labels=["1", "2"]), "'labels' as a list"),
    "a label too few": (batch(labels=[1]), "2 images, 1 labels"),
    "a label too high": (batch(labels=[1, 10]), "image 1 has '10'"),
    "a huge label": (cifar.python3_pickle(2, False)({"labels": [2**70] * 2, "data": BATCHES["test_batch"].pixels}), ""),
    "a label below 0": (cifar.python3_pickle(2, False)({"labels": [-1, 0], "data": BATCHES["test_batch"].pixels}), ""),
    "no image": (batch(labels=[], data=np.zeros((0, 3072), np.uint8)), "at least one image"),
    "a shape that is too large": (shaped(b"K\x02M\x00\x0c\x86", b"J\xff\xff\xff\x7fM\x00\x0c\x86"), "as many bytes"),
    "a shape below 0": (shaped(b"K\x02M\x00\x0c\x86", b"J\xff\xff\xff\xffM\x00\x0c\x86"), "the shape of an array"),
    "a shape of texts": (shaped(b"K\x02M\x00\x0c\x86", b"K\x02U\x01a\x86"), "the shape of an array"),
    "a state that is none": (batch().replace(b"b\x89T", b"bNT", 1), "the state of an array"),
}


@pytest.mark.parametrize(("hostile", "said"), WRONG.values(), ids=WRONG.keys())
def test_batches_that_are_not_what_they_should_be_are_refused(refuse: Refuse, hostile: bytes, said: str):
    problem = refuse(archive(hostile), "dataset", "cifar.tar.gz")
    assert problem.code == "dataset_invalid"
    assert "data_batch_3" in problem.detail
    assert said in problem.detail


def test_a_batch_that_is_too_large_is_refused_by_its_size(refuse: Refuse):
    data = cifar.packed(GOOD | {PLACE: bytes(2**28 + 1)}, "zip")
    problem = refuse(data, "dataset", "cifar.zip")
    assert problem.code == "resource_limit"
    assert "data_batch_3" in problem.detail
