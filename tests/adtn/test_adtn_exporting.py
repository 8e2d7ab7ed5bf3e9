"""Programs of torch with the decoding inside."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adtn import ADTN, ExportError, brick_wall, encode, save_program

ALONE = """
import sys
sys.modules["adtn"] = None  # as if it were not installed
import torch
from safetensors.torch import load_file, save_file

program = torch.export.load(sys.argv[1]).module()
save_file({"outputs": program(load_file(sys.argv[2])["inputs"]).detach()}, sys.argv[3])
"""


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 40)).eval()
    encode(model, "0.weight", ADTN((6, 2, 3, 3), brick_wall((6, 2, 9), 2)))
    encode(model, "4.weight", ADTN((40, 96), brick_wall(12, 2)))
    model[4].parametrizations.weight[0].quantise(4)
    return model


def test_a_process_without_the_package_gets_the_same_answers_for_any_number_of_samples(
    model: nn.Sequential, tmp_path: Path
) -> None:
    save_program(model, (2, 6, 6), tmp_path / "m.pt2")
    inputs = torch.randn(7, 2, 6, 6)
    save_file({"inputs": inputs}, tmp_path / "inputs.safetensors")
    command = [sys.executable, "-c", ALONE, "m.pt2", "inputs.safetensors", "outputs.safetensors"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    outputs = load_file(tmp_path / "outputs.safetensors")["outputs"]
    torch.testing.assert_close(outputs, model(inputs).detach(), rtol=1e-5, atol=1e-5)
    loaded = torch.export.load(tmp_path / "m.pt2")
    assert all(loaded.module()(inputs[:count]).shape == (count, 40) for count in (1, 2))
    held = {key: tensor.shape for key, tensor in loaded.state_dict.items() if "parametrizations" in key}
    assert held == {
        "0.parametrizations.weight.0.gates": (model[0].parametrizations.weight[0].gates.numel(),),
        "4.parametrizations.weight.0.packed": ((model[4].parametrizations.weight[0].gates.numel() + 1) // 2,),
        "4.parametrizations.weight.0.scales": (1,),
    }


def test_the_file_tells_nothing_of_the_code_that_the_model_came_from(model: nn.Sequential, tmp_path: Path) -> None:
    save_program(model, (2, 6, 6), tmp_path / "m.pt2")
    with zipfile.ZipFile(tmp_path / "m.pt2") as file:
        contents = b"".join(file.read(name) for name in file.namelist())
    assert str(Path(__file__).parents[2]).encode() not in contents
    assert b".py" not in contents


class ByValue(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_model_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot be traced for samples of shape \(3,\)"):
        save_program(ByValue(), (3,), tmp_path / "m.pt2")
    assert not (tmp_path / "m.pt2").exists()
