"""The benchmark of fine-tuning, on a VGG-16 of a few channels."""

from typing import Any

import pytest
import torch

from bench.fine_tuning import KEYS, Size, Variant, check, measured, table

SMALL = Size(images=24, batch=8, epochs=1, rounds=2, widths=(4,) * 13, hidden=(16, 12))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = measured(SMALL)
    torch.set_num_threads(threads)
    return found


def test_each_variant_trains_the_two_layers_in_every_round(rows: list[dict[str, Any]]) -> None:
    assert [(row["weights"], row["kept"]) for row in rows] == [
        ("dense", False),
        ("dense", True),
        ("encoded", False),
        ("encoded", True),
    ]
    assert all(len(row["samples_per_second"]) == len(row["preparation_seconds"]) == 2 for row in rows)
    assert [row["cached_bytes"] for row in rows] == [0, 24 * 4 * 4, 0, 24 * 4 * 4]
    dense = 16 * 4 + 12 * 16
    assert [row["trained_numbers"] for row in rows[:2]] == [dense, dense]
    assert rows[2]["trained_numbers"] == rows[3]["trained_numbers"] not in (0, dense)
    assert len(KEYS) == 2


def test_losses_that_differ_are_refused() -> None:
    same = {Variant(weights, kept): [2.0, 1.0] for weights in ("dense", "encoded") for kept in (False, True)}
    check(same)
    for wrong in ([2.0, 1.001], [2.0, float("nan")]):
        with pytest.raises(SystemExit, match="encoded: expected losses"):
            check({**same, Variant("encoded", True): wrong})


def test_the_table_has_a_row_a_variant(rows: list[dict[str, Any]]) -> None:
    machine = {"cores": 2, "processor": "a processor", "gpu": None, "torch": "2.13.0"}
    where = {"command": "python -m bench fine-tuning", "commit": "abc", "machine": machine}
    lines = table({"provenance": where, "size": vars(SMALL), "rows": rows}).splitlines()
    assert lines[2].startswith("| dense | 256 | 0 |")
    assert lines[5].startswith("| encoded |")
    assert "24 images of 32 x 32 in batches of 8" in lines[7]
