"""Training checkpoints as scripts save them: which dict is taken for the weights, and what is said of it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.sandbox.prefixes import common_prefix, prefix_note
from worker.sandbox.state import is_lightning, named_tensors

WEIGHTS = {"conv.weight": torch.full((2, 3), 1.0), "conv.bias": torch.zeros(2)}
AVERAGE = {key: tensor + 1 for key, tensor in WEIGHTS.items()}
OPTIMIZER = torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()
SCALER = {"scale": 65536.0, "growth_factor": 2.0}


def require_taken(loaded: dict[str, Any], expected: dict[str, Tensor]) -> list[str]:
    """The weights that are found are the expected tensors themselves; the notes."""
    found, notes = named_tensors(loaded)
    assert found.keys() == expected.keys()
    assert all(found[key] is expected[key] for key in expected)
    return notes


@pytest.mark.parametrize(
    "name",
    [
        *("state_dict", "model_state_dict", "model", "net", "module", "weights"),
        *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
        "a_name_that_nobody_knows",
    ],
)
def test_weights_are_found_beside_what_training_needs(name: str):
    best = torch.tensor(76.1)  # often a tensor among plain values
    beside = {"epoch": 3, "arch": "resnet", "optimizer": OPTIMIZER, "scaler": SCALER}
    (note,) = require_taken({**beside, name: WEIGHTS}, WEIGHTS)
    assert note.startswith(f"weights taken from '{name}'")
    assert note.endswith("left out: 'epoch', 'arch', 'optimizer', 'scaler'")
    if not name.startswith("a_name"):
        require_taken({**beside, name: WEIGHTS, "best": best}, WEIGHTS)


@pytest.mark.parametrize(("plain", "average"), [("model", "ema"), ("state_dict", "state_dict_ema")])
def test_plain_weights_are_taken_rather_than_their_running_average(plain: str, average: str):
    (note,) = require_taken({average: AVERAGE, plain: WEIGHTS}, WEIGHTS)
    assert note == f"weights taken from '{plain}'; not from their running average in '{average}'"


def test_a_running_average_is_taken_where_there_is_nothing_else():
    first, second = require_taken({"ema": {"decay": 0.999, "module": AVERAGE}, "epoch": 1}, AVERAGE)
    assert first == (
        "weights taken from 'ema'; a running average of the weights: there are no others in the file; left out: 'epoch'"
    )
    assert second == "weights taken from 'module'; left out: 'decay'"


def test_wrappers_within_wrappers_are_opened():
    assert len(require_taken({"model": {"state_dict": {"net": WEIGHTS}}}, WEIGHTS)) == 3


def test_a_state_dict_whose_keys_are_named_like_wrappers_is_taken_as_it_is():
    state = {"weights": torch.ones(2), "model": torch.ones(3), "ema": torch.ones(4)}
    assert require_taken(state, state) == []


@pytest.mark.parametrize(
    ("loaded", "names"),
    [
        ({"generator": WEIGHTS, "discriminator": AVERAGE, "step": 1}, "'generator', 'discriminator'"),
        ({"model": WEIGHTS, "net": AVERAGE}, "'model', 'net'"),
        ({"ema": WEIGHTS, "model_ema": AVERAGE}, "'model_ema', 'ema'"),
    ],
    ids=["unknown", "plain", "averages"],
)
def test_weights_of_several_models_are_refused_by_name(loaded: dict[str, Any], names: str):
    with pytest.raises(ProblemError) as caught:
        named_tensors(loaded)
    assert caught.value.code == "checkpoint_ambiguous"
    assert names in caught.value.detail


def test_dicts_that_hold_themselves_end():
    endless: dict[str, Any] = {"epoch": 1}
    endless |= {"model": endless, "ema": endless}
    with pytest.raises(ProblemError) as caught:
        named_tensors(endless)
    assert caught.value.code == "not_a_checkpoint"


@pytest.mark.parametrize(
    ("prefix", "lightning"),
    [("", False), ("module.", False), ("_orig_mod.module.", False), ("model.", True), ("net._orig_mod.", True)],
)
def test_prefixes_of_wrappers_are_found(prefix: str, lightning: bool):
    assert common_prefix([f"{prefix}conv.weight", f"{prefix}fc.bias"], lightning=lightning) == prefix


@pytest.mark.parametrize(
    "keys", [["model.conv.weight", "model.fc.bias"], ["module.conv.weight", "criterion.weight"], ["modules.a"]]
)
def test_prefixes_that_no_wrapper_put_before_every_key_stay(keys: list[str]):
    assert common_prefix(keys, lightning=False) == ""


def test_lightning_is_told_by_its_version():
    loaded = {"pytorch-lightning_version": "2.5.0", "state_dict": {f"model.{k}": t for k, t in WEIGHTS.items()}}
    assert is_lightning(loaded)
    assert not is_lightning(WEIGHTS)
    found, _ = named_tensors(loaded)
    assert prefix_note(common_prefix(found, lightning=True), len(found)) == (
        "prefix 'model.' (LightningModule) removed from 2 keys; the artifacts have it again"
    )
