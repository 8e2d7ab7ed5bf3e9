"""The benchmark of gates in few bits: what a run measures, and what the table says of it."""

import copy

import pytest
import torch

import adtn
from bench.gate_bits import measured, rounded, table
from demo.model import DigitsNet, accuracy
from worker.datasets import load


def test_a_model_is_measured_by_what_its_file_decodes_to() -> None:
    torch.manual_seed(0)
    data, model = load("digits"), DigitsNet()
    adtn.encode(model, "fc2.weight", adtn.ADTN((128, 256), adtn.brick_wall(15)))
    coarse = rounded(model, 4)
    assert adtn.encoded(model)["fc2.weight"].bits is None
    found = measured(coarse, data)
    assert found["accuracy"] == accuracy(copy.deepcopy(coarse), data.test_x, data.test_y)
    assert found["gate_bytes"] == adtn.stored_bytes(adtn.encoded(coarse)["fc2.weight"])
    assert found["file_bytes"] > found["gate_bytes"]


def test_the_table_has_a_row_a_size_and_number_of_bits() -> None:
    runs = [{"accuracy": share, "gate_bytes": 415.0, "file_bytes": 5000.0} for share in (0.9, 0.92)]
    rows = [
        {"numbers": 1860, "bits": None, "rounded_in_training": runs, "rounded_after_training": None},
        {"numbers": 1860, "bits": 4, "rounded_in_training": runs, "rounded_after_training": runs},
    ]
    provenance = {"seeds": [0, 1], "command": "python -m bench gate-bits", "commit": "abc"}
    lines = table({"provenance": provenance, "baseline": 0.967, "samples": 360, "rows": rows}).splitlines()
    assert lines[2] == "| 1,860 | floats | 415 | 91.0 (90.0 to 92.0) |  |"
    assert lines[3] == "| 1,860 | 4 | 415 | 91.0 (90.0 to 92.0) | 91.0 (90.0 to 92.0) |"
    assert "Mean of 2 seeds" in lines[5]


@pytest.mark.parametrize("bits", [2, 8])
def test_rounding_leaves_the_model_that_was_given(bits: int) -> None:
    model = DigitsNet()
    adtn.encode(model, "fc2.weight", adtn.ADTN((128, 256), adtn.brick_wall(15)))
    before = adtn.encoded(model)["fc2.weight"].gates.detach().clone()
    rounded(model, bits)
    assert torch.equal(adtn.encoded(model)["fc2.weight"].gates, before)
