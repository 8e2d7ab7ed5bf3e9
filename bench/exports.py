"""Bytes and latency of each export of a compressed network, next to the same form of the original.

The numbers of the gates do not matter for either, so nothing is fitted. Every form is loaded from its file, and its
outputs are compared with those of the compressed model before any time counts. The forms then answer in turn, in one
process on one thread; each is compared with the original's form in the same round.
"""

import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import adtn
from bench.lenet5_mnist import LAYERS, LeNet5
from bench.markers import DOCS, write_between
from bench.record import RESULTS, provenance, store
from bench.timing import Pair, check, onnx_session, timed
from worker.architectures import create

SEED = 0
BATCHES = (1, 64)

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Form:
    """A way to store a network.

    Attributes:
        name: As in the settings of a job.
        file: Its name.
        write: Writes a network, compressed or not, for samples of a shape.
        read: Loads it into a network of that architecture, or as a program of its own.
    """

    name: str
    file: str
    write: Callable[[nn.Module, tuple[int, ...], Path], None]
    read: Callable[[Path, nn.Module], Forward]


def write_dense(model: nn.Module, _sample: tuple[int, ...], path: Path) -> None:
    """The decoded weights, as a job exports them."""
    adtn.save(model, path.with_suffix(".gates"))
    save_file(adtn.decode(path.with_suffix(".gates")), path)


def read_dense(path: Path, empty: nn.Module) -> Forward:
    """A network with the weights of a file."""
    empty.load_state_dict(load_file(path))
    return empty.eval()


def read_onnx(path: Path, _empty: nn.Module) -> Forward:
    """A session of one thread."""
    session = onnx_session(path)
    return lambda x: torch.from_numpy(session.run(["output"], {"input": x.numpy()})[0])


FORMS = (
    Form(
        "adtn",
        "m.adtn.safetensors",
        lambda model, _, path: adtn.save(model, path),
        lambda path, empty: adtn.load(path, empty, decode="once").eval(),
    ),
    Form("dense", "m.dense.safetensors", write_dense, read_dense),
    Form("onnx", "m.onnx", adtn.save_onnx, read_onnx),
    Form("pt2", "m.pt2", adtn.save_program, lambda path, _: torch.export.load(path).module()),
)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str] | None]] = {
    "lenet5": (LeNet5, (1, 28, 28), LAYERS),
    "vgg16": (lambda: create("vgg16", (3, 32, 32), 10), (3, 32, 32), None),
}
"""How each is made, the shape of a sample, and the layers that are encoded; None: those that get smaller."""


def run(networks: list[str]) -> None:
    """Write, load, check, measure, store, and write the table of the page.

    Args:
        networks: Names in `NETWORKS`.
    """
    torch.set_num_threads(1)
    rows = [row for name in networks for row in rows_of(name)]
    command = f"python -m bench exports --networks {','.join(networks)}"
    store("exports", {"provenance": provenance(command, [SEED]), "rows": rows})
    write()


def rows_of(name: str) -> list[dict[str, Any]]:
    """A row a batch size and form."""
    make, sample, layers = NETWORKS[name]
    torch.manual_seed(SEED)
    original = make().eval()
    compressed = encode(original, layers)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, tuple[int, int]] = {}
        forwards: dict[str, tuple[Forward, Forward]] = {}
        for form in FORMS:
            loaded = []
            for kind, model in (("original", original), ("compressed", compressed)):
                path = Path(folder) / f"{kind}.{form.file}"
                form.write(model, sample, path)
                loaded.append((path.stat().st_size, form.read(path, copy.deepcopy(original))))
            files[form.name] = loaded[0][0], loaded[1][0]
            forwards[form.name] = loaded[0][1], loaded[1][1]
        return [row for batch in BATCHES for row in rows_of_batch(name, batch, compressed, files, forwards, sample)]


def encode(original: nn.Module, layers: list[str] | None) -> nn.Module:
    """The network with encoded layers, their gates at random."""
    model = copy.deepcopy(original)
    for entry in adtn.make_plan(adtn.layers_of(model), layers).entries:
        adtn.encode(model, entry.layer.key, adtn.ADTN(entry.layer.shape, entry.structure))
    return model


@torch.no_grad()
def rows_of_batch(
    name: str,
    batch: int,
    compressed: nn.Module,
    files: dict[str, tuple[int, int]],
    forwards: dict[str, tuple[Forward, Forward]],
    sample: tuple[int, ...],
) -> list[dict[str, Any]]:
    """The rows of one batch size: outputs checked, then every form timed in turn."""
    inputs = torch.randn(batch, *sample)
    expected = compressed(inputs)
    for form, (_, forward) in forwards.items():
        check(form, forward(inputs), expected)
    pairs = {form: Pair(*(partial(forward, inputs) for forward in pair)) for form, pair in forwards.items()}
    return [
        {
            "network": name,
            "batch": batch,
            "form": form,
            "bytes": {"original": files[form][0], "compressed": files[form][1]},
            **times,
        }
        for form, times in timed(pairs).items()
    ]


def table(result: dict[str, Any]) -> str:
    """A row a network, form and batch size, and where they come from."""
    lines = [
        "| network | form | bytes: original → compressed | batch | ms: original → compressed | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        size, median = row["bytes"], row["median"]
        lines.append(
            f"| {row['network']} | `{row['form']}` | {size['original']:,} → {size['compressed']:,} | {row['batch']} "
            f"| {1000 * median['original']:.3f} → {1000 * median['compressed']:.3f} | {median['ratio']:.2f} |"
        )
    where = result["provenance"]
    note = (
        f"Medians of {len(result['rows'][0]['seconds']['original'])} rounds after loading, on one thread; the ratio is "
        f"the median of those within a round. `{where['command']}` at {where['commit']}, "
        f"{where['machine']['processor']}, torch {where['machine']['torch']}; every run is in "
        "`bench/results/exports.json`."
    )
    return "\n".join([*lines, "", note])


def write() -> None:
    """Put the table into the page."""
    write_between(DOCS / "exports.md", "exports", table(json.loads((RESULTS / "exports.json").read_text())))
