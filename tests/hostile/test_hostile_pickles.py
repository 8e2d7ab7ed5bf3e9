"""Uploads in torch's own formats that try to run code or to take more than they bring."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hostile_files import (
    Marker,
    Opener,
    Refuse,
    overlapping_zip,
    pickled_tensor,
    rezipped,
    torch_bytes,
    torch_zip_of_pickle,
)
from torch import nn

STATE = {"fc.weight": torch.ones(4, 4), "fc.bias": torch.zeros(4)}


@pytest.mark.parametrize("payload", [Marker, Opener])
@pytest.mark.parametrize("container", ["bare pickle", "zip"])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(refuse: Refuse, tmp_path: Path, payload, container):
    marker = tmp_path / "marker"
    pickled = pickle.dumps({"w": payload(marker)}, protocol=2)
    data = pickled if container == "bare pickle" else torch_zip_of_pickle(pickled)

    problem = refuse(data, "checkpoint", "model.pt")

    assert problem.code == "checkpoint_contains_code"
    assert "torch.save(model.state_dict()" in problem.detail
    assert not marker.exists()


def test_the_marker_pickle_does_run_code_where_it_is_unpickled(tmp_path: Path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps({"w": Marker(marker)}))
    assert marker.exists()


def test_a_whole_module_is_refused_with_the_way_to_save_weights(refuse: Refuse):
    problem = refuse(torch_bytes(nn.Linear(2, 2)), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_contains_code"
    assert "torch.nn.modules.linear.Linear" in problem.detail
    assert "torch.save(model.state_dict()" in problem.detail


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused(refuse: Refuse, tmp_path: Path):
    path = tmp_path / "script.pt"
    torch.jit.script(nn.Linear(2, 2)).save(path)
    problem = refuse(path.read_bytes(), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_contains_code"
    assert "TorchScript" in problem.detail


def test_a_torch_package_is_refused(refuse: Refuse, tmp_path: Path):
    from torch.package import PackageExporter

    path = tmp_path / "package.pt"
    with PackageExporter(path) as exporter:
        exporter.save_source_string("evil", "import os")
        exporter.save_pickle("model", "model.pkl", {"layers": 2})
    problem = refuse(path.read_bytes(), "checkpoint", "package.pt")
    assert problem.code == "checkpoint_contains_code"
    assert "torch.package" in problem.detail


def test_a_zip_bomb_is_refused_before_it_is_expanded(refuse: Refuse):
    data = rezipped(torch_bytes({"w": torch.zeros(2**22)}), zipfile.ZIP_DEFLATED)
    assert len(data) < 2**17
    problem = refuse(data, "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "stored without compression" in problem.detail


def test_a_zip_with_one_member_under_two_names_is_refused(refuse: Refuse):
    problem = refuse(overlapping_zip("a/one/data.pkl", b"x" * 100), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "overlaps" in problem.detail


def test_a_zip_with_a_repeated_name_is_refused(refuse: Refuse):
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = rezipped(torch_bytes(STATE), more={"archive/data.pkl": b"."})
    problem = refuse(data, "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "more than once" in problem.detail


def test_an_encrypted_zip_is_refused(refuse: Refuse):
    data = bytearray(torch_bytes(STATE))
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    problem = refuse(bytes(data), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "encrypted" in problem.detail


def test_a_stride_bomb_is_refused_by_the_bytes_it_has(refuse: Refuse):
    data = torch_bytes({"w": torch.zeros(1).expand(2**20, 2**20)})
    assert len(data) < 2000
    problem = refuse(data, "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert [fault.pointer for fault in problem.errors] == ["w"]
    assert f"expected {2**42} stored bytes, got 4" in problem.detail


@pytest.mark.parametrize(("numbers", "size", "stride"), [(4, (100, 100), (100, 1)), (2**40, (2, 2), (2, 1))])
def test_a_tensor_or_block_larger_than_its_record_is_refused(refuse: Refuse, numbers: int, size: tuple, stride: tuple):
    data = torch_zip_of_pickle(pickled_tensor(numbers, size, stride), {"0": bytes(16)})
    problem = refuse(data, "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "claim more bytes" in problem.detail


def test_views_that_overlap_beyond_the_file_are_refused(refuse: Refuse):
    base = torch.zeros(10_000)
    problem = refuse(torch_bytes({f"w{i}": base[i:] for i in range(50)}), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert "overlap" in problem.detail


def test_a_sparse_tensor_with_indices_out_of_bounds_is_refused(refuse: Refuse):
    with torch.sparse.check_sparse_tensor_invariants(False), pytest.warns(UserWarning, match="beta"):
        sparse = torch.sparse_csr_tensor(
            torch.tensor([0, 2**40, 2**41]),
            torch.tensor([0, 2**40]),
            torch.ones(2),
            size=(2, 2),
            check_invariants=False,
        )
    assert refuse(torch_bytes({"w": sparse}), "checkpoint", "model.pt").code == "checkpoint_invalid"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_that_are_not_plain_numbers_are_refused_by_name(refuse: Refuse):
    odd = {
        "complex": (torch.ones(2, dtype=torch.complex64), "got torch.complex64"),
        "float8": (torch.ones(2).to(torch.float8_e4m3fn), "got torch.float8_e4m3fn"),
        "meta": (torch.empty(3, device="meta"), "device 'meta'"),
        "empty": (torch.empty(0, 3), "at least one element"),
        "deep": (torch.ones([1] * 9), "at most 8 dimensions, got 9"),
        "quantized": (torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), "a quantized one"),
        "sparse": (torch.eye(3).to_sparse(), "a sparse_coo one"),
    }
    problem = refuse(torch_bytes(STATE | {key: tensor for key, (tensor, _) in odd.items()}), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert [fault.pointer for fault in problem.errors] == list(odd)
    for fault in problem.errors:
        assert odd[fault.pointer][1] in fault.detail


def test_keys_that_are_no_names_are_refused(refuse: Refuse):
    keys = ["../../etc/passwd", "/abs", "a\nb", "", "x" * 600, 7, "\x1b[31mred", "a..b", "b.", "caf\u00e9"]
    problem = refuse(torch_bytes(STATE | {key: torch.ones(2) for key in keys}), "checkpoint", "model.pt")
    assert problem.code == "checkpoint_invalid"
    assert len(problem.errors) == len(keys)
    for text in [problem.detail, *(fault.pointer + fault.detail for fault in problem.errors)]:
        assert text.isprintable()
        assert len(text) < 300


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), torch.float32), (float("-inf"), torch.bfloat16)])
def test_non_finite_weights_are_refused_by_name(refuse: Refuse, value: float, dtype: torch.dtype):
    broken = torch.zeros(3, 3, dtype=dtype)
    broken[1, 2] = value
    problem = refuse(torch_bytes(STATE | {"bad.weight": broken}), "checkpoint", "model.pt")
    assert problem.code == "non_finite_values"
    assert [fault.pointer for fault in problem.errors] == ["bad.weight"]
