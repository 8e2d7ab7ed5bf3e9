"""The page on exports and the model card: their lines load what is exported."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from support.digits import DigitsLeNet
from torch import Tensor

import adtn
from adtn.encoding import decoded
from worker.pipeline.export import Compressed, export
from worker.pipeline.model_card import LOADING

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"
SNIPPETS = re.findall(r"```python\n(.*?)\n```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A folder with every export of a model, some inputs, and the model's outputs."""
    torch.manual_seed(0)
    model, inputs = DigitsLeNet().eval(), torch.rand(3, 1, 8, 8)
    adtn.compress(model, {"fc1.weight": adtn.brick_wall(13, 2)}, adtn.FitOptions(steps=1))
    model.eval()
    state = {key: tensor for key, tensor in model.state_dict().items() if "parametrizations" not in key}
    folder = tmp_path_factory.mktemp("exports")
    compressed = Compressed(model, state | decoded(model), (1, 8, 8), "")
    export(compressed, ["adtn", "dense", "dense_pt", "onnx", "pt2"], folder)
    return folder, inputs, model(inputs).detach()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_snippet_loads_the_model(
    exported: tuple[Path, Tensor, Tensor], snippet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, inputs, expected = exported
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "adtn_loader", raising=False)
    names = {"model": DigitsLeNet().eval(), "inputs": inputs.numpy() if "onnxruntime" in snippet else inputs}
    exec(snippet, names)  # the page's own lines
    outputs = torch.as_tensor(names["outputs"]) if "outputs" in names else names["model"](inputs)
    torch.testing.assert_close(outputs.detach(), expected, rtol=1e-5, atol=1e-5)


def test_the_card_shows_the_lines_of_the_page() -> None:
    assert {code for _, code in LOADING.values()} <= set(SNIPPETS)


def test_decoded_once_leaves_no_gates_and_each_step_does(exported: tuple[Path, Tensor, Tensor]) -> None:
    path, fresh = exported[0] / "model.adtn.safetensors", DigitsLeNet()
    assert not adtn.encoded(adtn.load(path, copy.deepcopy(fresh), decode="once"))
    assert list(adtn.encoded(adtn.load(path, fresh, decode="each_step"))) == ["fc1.weight"]
