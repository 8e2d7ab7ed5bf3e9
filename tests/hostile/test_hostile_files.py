"""Uploads that are no checkpoint, or only part of one."""

import io
import tarfile

import pytest
import torch
from hostile_files import Refuse, torch_bytes

STATE = {"fc.weight": torch.ones(40, 40)}


def test_an_empty_file_is_refused(refuse: Refuse):
    assert refuse(b"", "checkpoint").code == "empty_file"
    assert refuse(b"", "dataset").code == "empty_file"


@pytest.mark.parametrize(("legacy", "share"), [(False, 0.3), (False, 0.97), (True, 0.5)])
def test_a_checkpoint_cut_short_is_refused(refuse: Refuse, legacy: bool, share: float):
    data = torch_bytes(STATE, _use_new_zipfile_serialization=not legacy)
    assert refuse(data[: int(len(data) * share)], "checkpoint", "model.pt").code == "truncated_file"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
        (b"\x00\x01\x02\x03random bytes", "00 01 02 03"),
    ],
)
def test_another_format_is_refused_whatever_its_name(refuse: Refuse, data: bytes, said: str):
    problem = refuse(data, "checkpoint", "model.pt")
    assert problem.code == "unsupported_format"
    assert said in problem.detail


def test_the_oldest_tar_format_is_refused(refuse: Refuse):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    problem = refuse(buffer.getvalue(), "checkpoint", "model.pt")
    assert problem.code == "unsupported_format"
    assert "oldest format" in problem.detail


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([torch.ones(2)], "got a list"),
        ({"epoch": 3, "name": "x"}, "'epoch': int"),
        ({}, "an empty dict"),
        (torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1).state_dict(), "optimizer"),
    ],
)
def test_an_object_without_named_tensors_is_no_checkpoint(refuse: Refuse, value: object, said: str):
    problem = refuse(torch_bytes(value), "checkpoint", "model.pt")
    assert problem.code == "not_a_checkpoint"
    assert said in problem.detail


def test_an_entry_that_is_no_tensor_is_refused_by_name(refuse: Refuse):
    problem = refuse(torch_bytes(STATE | {"epoch": 3}), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert [(fault.pointer, fault.detail) for fault in problem.errors] == [("epoch", "expected a tensor, got a int")]


def test_deep_nesting_is_refused(refuse: Refuse):
    data = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    assert refuse(data, "checkpoint", "model.pt").code in ("not_a_checkpoint", "truncated_file", "checkpoint_invalid")


def test_a_pickle_that_claims_a_string_larger_than_memory_is_refused(refuse: Refuse):
    data = b"\x80\x02X" + (2**31 - 1).to_bytes(4, "little") + b"a"
    assert refuse(data, "checkpoint", "model.pt").code == "resource_limit"
