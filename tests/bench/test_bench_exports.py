"""The benchmark of exports: what is checked before it measures, and what the table says."""

import pytest
import torch

from bench import exports, timing


def test_every_form_of_a_small_network_is_measured_next_to_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(exports, "BATCHES", (2,))
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    rows = exports.rows_of("lenet5")
    assert [row["form"] for row in rows] == ["adtn", "dense", "onnx", "pt2"]
    for row in rows:
        assert len(row["seconds"]["original"]) == len(row["seconds"]["compressed"]) == 1
    sizes = {row["form"]: row["bytes"] for row in rows}
    assert sizes["dense"]["compressed"] == sizes["dense"]["original"]
    for form in ("adtn", "onnx"):
        assert sizes[form]["compressed"] < sizes[form]["original"] / 2
    where = {"command": "c", "commit": "abc", "machine": {"processor": "p", "torch": "t"}}
    lines = exports.table({"provenance": where, "rows": rows}).splitlines()
    assert len(lines) == 8
    assert lines[4].startswith(f"| lenet5 | `onnx` | {sizes['onnx']['original']:,} → ")


def test_a_form_that_answers_otherwise_is_not_measured() -> None:
    expected = torch.tensor([[1.0, 2.0]])
    timing.check("onnx", expected * (1 + 1e-6), expected)
    with pytest.raises(SystemExit, match="onnx: expected outputs within"):
        timing.check("onnx", expected + 0.1, expected)
    with pytest.raises(SystemExit, match="they differ by nan"):
        timing.check("onnx", expected * torch.nan, expected)
