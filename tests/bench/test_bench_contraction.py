from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import adtn
from bench.contraction.check import TOLERANCE, WrongResult, check, exact
from bench.contraction.goals import missed
from bench.contraction.methods import METHODS, forward, forward_backward
from bench.contraction.networks import Network, draw
from bench.contraction.table import COLUMNS, header, line
from bench.markers import write_between

NETWORKS = [
    Network(6, given=True),
    Network(7, given=True),
    Network(6),
    Network(7),
    Network(6, depth=2),
    Network(7, depth=3),
]
ROW: dict[str, Any] = {
    "network": "inner layer",
    "sites": 20,
    "method": "ours",
    "device": "cpu",
    "measures": "all",
    "least_moves": 5,
    "differences": {"result": 1e-7, "gates": 3e-7, "homogeneity": 2e-7},
    "peak_bytes": 2**23,
    "seconds": {"copy": [1.0, 2.0, 3.0], "forward": [8.0, 8.0], "both": [20.0, 40.0]},
}


def available(method: str) -> str:
    """The method, or a skipped test where its package is not installed."""
    if method == "quimb" and find_spec("quimb") is None:
        pytest.skip("quimb is not installed")
    return method


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.name}-{network.sites}")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_decodes_and_differentiates_as_float64_does(method: str, network: Network, tmp_path: Path) -> None:
    inputs = draw(network, seed=0)
    direction = forward(available(method), network, inputs)
    values = forward_backward(method, network, inputs, direction)
    found = check(network, inputs, values, tmp_path / "values.pt", careful=True)
    assert found.keys() == {*values, "homogeneity"}
    assert max(found.values()) < TOLERANCE


@pytest.mark.parametrize("name", ["result", "gates", "state"])
def test_a_wrong_number_is_found(name: str, tmp_path: Path) -> None:
    network = Network(6, given=True)
    inputs = draw(network, seed=0)
    values = {key: value.float() for key, value in exact(network, inputs).items()}
    check(network, inputs, values, tmp_path / "values.pt", careful=True)
    values[name][3] += 1e-3 * values[name].norm()
    with pytest.raises(WrongResult, match=name):
        check(network, inputs, values, tmp_path / "values.pt", careful=True)


@pytest.mark.parametrize("sites", [2, 7, 12])
@pytest.mark.parametrize("depth", [1, 2])
def test_networks_are_the_brick_walls_of_the_library(sites: int, depth: int) -> None:
    structure = adtn.brick_wall(sites, depth)
    network = Network(sites, depth)
    places = tuple(tuple((gate.first, gate.first + 2) for gate in layer.gates) for layer in network.layers)
    assert (places, network.parameters) == (structure.tn_layers, structure.parameters)


def test_a_row_has_medians_copies_and_memory() -> None:
    cells = [cell.strip() for cell in line(ROW).strip("|").split("|")]
    assert len(cells) == len(COLUMNS)
    assert cells == ["inner layer", "20", "ours", "8", "4.0", "30", "15.0", "2.0", "8", "16.7%", "2", "1e-07", "3e-07"]


def rows_of_time(network: str, method: str, **seconds: float) -> list[dict[str, Any]]:
    """Rows at Q=20, 24 and 26 in which an entry costs the same, but for the times given as `Q24` and the like."""
    return [
        {
            **ROW,
            "network": network,
            "sites": sites,
            "method": method,
            "peak_bytes": 4 * 4 * 2**sites,
            "seconds": {"copy": [2.0**sites], "both": [seconds.get(f"Q{sites}", 50 * 2.0**sites)]},
        }
        for sites in (20, 24, 26)
    ]


def test_goals_that_are_met_are_not_named() -> None:
    slow = 20 * 50 * 2.0**24
    assert missed([*rows_of_time("inner layer", "ours"), *rows_of_time("inner layer", "tensordot", Q24=slow)]) == []
    assert missed(rows_of_time("first layer", "ours", Q24=20 * 2.0**24)) == [
        "inner layer, Q=24: expected the times of tensordot and ours, got none of one of them"
    ]


def test_every_goal_that_is_missed_is_named() -> None:
    inner = rows_of_time("inner layer", "ours", Q24=91 * 2.0**24)
    inner[1]["peak_bytes"] += 1024**2
    peer = rows_of_time("inner layer", "tensordot", Q24=19.9 * 91 * 2.0**24)
    large = {**ROW, "network": "network of 2", "sites": 27, "peak_bytes": 2**33}
    impossible = {**ROW, "network": "first layer", "device": "cuda", "infeasible": "no result within 150 s"}
    found = missed([*inner, *peer, *rows_of_time("first layer", "ours"), large, impossible])
    assert found == [
        "first layer, Q=20: expected a result, got no result within 150 s",
        "inner layer, Q=24: expected at most 90 copies, got 91.0",
        "first layer, Q=24: expected at most 20 copies, got 50.0",
        "inner layer, Q=24: expected 20 times the speed of tensordot, got 19.9",
        "inner layer, Q=24: expected a peak of 4 tensors, got 4.02",
        "network of 2, Q=27: expected a peak of 4 tensors, got 16.00",
        "network of 2, Q=27: expected a peak of less than 8589934592 bytes, got 8589934592",
        "inner layer: expected an entry to cost the same within 1.5 times, "
        "got 50000000000.0 ns at Q=20, 91000000000.0 ns at Q=24, 50000000000.0 ns at Q=26",
    ]


def test_an_infeasible_row_gives_the_reason() -> None:
    row = {key: ROW[key] for key in ("network", "sites", "method", "device")}
    text = line({**row, "infeasible": "needs more than 21 GiB"})
    assert text.startswith("| inner layer | 20 | ours | needs more than 21 GiB |")
    assert text.count("|") == header().splitlines()[0].count("|")


def test_a_table_replaces_only_what_is_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    end = "<!-- end of results -->"
    page.write_text(f"a\n<!-- results: one -->\nold\n{end}\nb\n<!-- results: two -->\nkept\n{end}\n")
    write_between(page, "one", "new")
    assert page.read_text() == f"a\n<!-- results: one -->\nnew\n{end}\nb\n<!-- results: two -->\nkept\n{end}\n"


def test_the_inputs_are_the_same_for_every_method() -> None:
    first, second = draw(NETWORKS[0], seed=0), draw(NETWORKS[0], seed=0)
    for a, b in zip(first.leaves, second.leaves, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
