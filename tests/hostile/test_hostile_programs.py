"""Exported programs that try to run code, to take more than they bring, or to be something else."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_files import Marker, Refuse, zip_bytes
from hostile_programs import EVAL, MODEL, SAMPLES, WEIGHTS, changed, graph_of, member, ordinary, read, with_members

from jobs.problems import ProblemError

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")


def refused(data: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        read(data)
    return caught.value


def runs_code(marker: Path) -> str:
    """An expression that makes a file where it is evaluated."""
    return EVAL.format(code=f"open({str(marker)!r}, 'w').close()")


def in_sizes(expression: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        size = graph_of(document)["tensor_values"]["input"]["sizes"][0]
        size["as_expr"]["expr_str"] = expression

    return change


def test_the_ordinary_program_is_read() -> None:
    assert b"fc" not in read(ordinary())
    assert b"0.weight" in read(ordinary())


def test_code_in_an_expression_is_refused_and_does_not_run(refuse: Refuse, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    problem = refuse(changed(in_sizes(runs_code(marker))), "checkpoint", "model.pt2")
    assert problem.code == "checkpoint_invalid"
    assert "tensor_values.input.sizes.0" in problem.detail
    assert "expr_str" in problem.detail
    assert not marker.exists()


def test_a_program_whose_tensors_come_last_is_refused(refuse: Refuse) -> None:
    """Its first bytes are not those of a program, so that the reader was not made ready to try one out."""
    with zipfile.ZipFile(io.BytesIO(ordinary())) as archive:
        members = {name: archive.read(name) for name in reversed(archive.namelist())}
    problem = refuse(zip_bytes(members, zipfile.ZIP_STORED), "checkpoint", "model.pt2")
    assert problem.code == "checkpoint_invalid"
    assert "at the start of the archive" in problem.detail


def test_a_pickle_in_the_place_of_sample_inputs_is_never_looked_at(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    data = with_members({SAMPLES: pickle.dumps(Marker(marker))})
    assert read(data) == read(ordinary())
    assert not marker.exists()


def test_torchs_own_loader_does_run_both(tmp_path: Path) -> None:
    markers = [tmp_path / "expression", tmp_path / "pickle"]
    (tmp_path / "0.pt2").write_bytes(changed(in_sizes(runs_code(markers[0]))))
    (tmp_path / "1.pt2").write_bytes(with_members({SAMPLES: pickle.dumps(Marker(markers[1]))}))
    script = "import contextlib, sys, torch\nfor path in sys.argv[1:]:\n"
    script += "    with contextlib.suppress(Exception): torch.export.load(path)"
    paths = [str(tmp_path / f"{number}.pt2") for number in range(2)]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, capture_output=True)
    assert [marker.exists() for marker in markers] == [True, True]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("__import__('os')", "expected an expression of sizes"),
        ("Symbol('s0').__class__", "expected an expression of sizes, got '.__class__'"),
        ("Symbol('s0') Integer(1)", "expected the expression to end"),
        ("Symbol('s0', commutative=True)", "expected an assumption"),
        ("Lambda(Symbol('x'), Integer(1))", "expected a function of sizes"),
        ("Add(" * 50 + "Integer(1)" + ")" * 50, "at most 20 levels"),
        ("Add(Integer(1)", "cut short"),
        ("Mod(Integer(1))", "another number of arguments"),
        ("Add(" + "Integer(1), " * 300 + "Integer(1))", "at most 2000 characters"),
        ("Symbol('s0') + 1", "expected an expression of sizes, got ' + 1'"),
    ],
)
def test_expressions_beyond_the_grammar_are_refused(expression: str, says: str) -> None:
    problem = refused(changed(in_sizes(expression)))
    assert problem.code == "checkpoint_invalid"
    assert says in problem.detail


def test_sizes_that_are_computed_from_others_are_refused_for_the_input() -> None:
    problem = refused(changed(in_sizes("Mul(Integer(2), Symbol('s0', positive=True))")))
    assert problem.code == "unsupported_format"
    assert "dimension 0" in problem.detail


ARCHIVES = {
    "deflated": lambda: with_members({}, zipfile.ZIP_DEFLATED),
    "a bomb": lambda: with_members({"data/weights/weight_0": bytes(2**24)}, zipfile.ZIP_DEFLATED),
    "a path upwards": lambda: with_members({"../../evil": b""}),
    "a path upwards in a known folder": lambda: with_members({"data/weights/../../evil": b""}),
    "another folder": lambda: with_members({}).replace(b"archive/byteorder", b"zzzzzzz/byteorder"),
    "an unknown member": lambda: with_members({"data/weights/evil.py": b""}),
    "two programs": lambda: with_members({"models/other.json": member(MODEL)}),
    "no program": lambda: with_members({}).replace(b"models/model.json", b"models/model.jsno"),
    "the other byte order": lambda: with_members({"byteorder": b"big"}),
    "another format": lambda: with_members({"archive_format": b"aoti"}),
    "no JSON": lambda: with_members({MODEL: b"{"}),
    "a number that is none": lambda: with_members({MODEL: member(MODEL).replace(b'"as_int": 0', b'"as_int": NaN')}),
    "a field twice": lambda: with_members({MODEL: b'{"graph_module": {}, "graph_module": {}}'}),
    "deep nesting": lambda: with_members({MODEL: b'{"a":' * 100_000}),
    "weights that are missing": lambda: with_members({}).replace(b"weights/weight_0", b"weights/weight_x"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_torch_does_not_write_are_refused(name: str) -> None:
    assert refused(ARCHIVES[name]()).code == "checkpoint_invalid"


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_repeated_members_are_refused() -> None:
    buffer = io.BytesIO(ordinary())
    with zipfile.ZipFile(buffer, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("weight_0"))
        archive.writestr(name, b"")
    assert "more than once" in refused(buffer.getvalue()).detail


def test_compiled_code_is_refused() -> None:
    problem = refused(with_members({"data/aotinductor/model/a.so": b"\x7fELF"}))
    assert problem.code == "checkpoint_contains_code"


def payload(**change: Any) -> Callable[[Any], None]:
    return lambda document: document["config"]["0.weight"].update(change)


def meta(**change: Any) -> Callable[[Any], None]:
    return lambda document: document["config"]["0.weight"]["tensor_meta"].update(change)


def ints(*numbers: Any) -> list[dict[str, Any]]:
    return [{"as_int": number} for number in numbers]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (payload(use_pickle=True), "checkpoint_contains_code", "never run"),
        (payload(tensor_meta=None), "checkpoint_contains_code", "never run"),
        (payload(path_name="../../etc/passwd"), "checkpoint_invalid", "path_name"),
        (payload(path_name="weight_99"), "checkpoint_invalid", "weight_99"),
        (payload(more=1), "checkpoint_invalid", "more"),
        (meta(storage_offset={"as_int": 1}), "checkpoint_invalid", "expected 129 stored numbers, got 128"),
        (meta(storage_offset={"as_int": -1}), "checkpoint_invalid", "-1"),
        (meta(sizes=ints(2**62, 8)), "checkpoint_invalid", "stored numbers"),
        (meta(sizes=ints(2**64, 8)), "checkpoint_invalid", "sizes"),
        (meta(strides=ints(-8, 1)), "checkpoint_invalid", "-8"),
        (meta(strides=ints(8)), "checkpoint_invalid", "strides"),
        (meta(sizes=ints(0, 8)), "checkpoint_invalid", "at least one element"),
        (meta(sizes=ints(16.5, 8)), "checkpoint_invalid", "sizes"),
        (meta(sizes=ints(True, 8)), "checkpoint_invalid", "sizes"),
        (meta(sizes=ints(2**40, 8), strides=ints(0, 1)), "checkpoint_invalid", "stored bytes"),
        (meta(dtype=9), "checkpoint_invalid", "dtype"),
        (meta(layout=1), "checkpoint_invalid", "layout"),
        (meta(sizes=ints(8, 16), strides=ints(16, 1)), "checkpoint_invalid", "operator 0"),
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(change: Callable[[Any], None], code: str, says: str) -> None:
    problem = refused(changed(change, WEIGHTS))
    assert problem.code == code
    assert says in problem.detail


@pytest.mark.parametrize("key", ["../../x", "0.weight.more", "forward.weight", "0..weight", "a\u0000b", ""])
def test_keys_that_no_model_has_are_refused(key: str) -> None:
    def rename(document: Any) -> None:
        document["config"][key] = document["config"].pop("0.bias")

    def rename_in_graph(document: Any) -> None:
        document["graph_module"]["signature"]["input_specs"][1]["parameter"]["parameter_name"] = key

    configuration = json.loads(member(WEIGHTS))
    rename(configuration)
    document = json.loads(member(MODEL))
    rename_in_graph(document)
    data = with_members({WEIGHTS: json.dumps(configuration).encode(), MODEL: json.dumps(document).encode()})
    assert refused(data).code == "checkpoint_invalid"


def node(position: int, **change: Any) -> Callable[[Any], None]:
    return lambda document: graph_of(document)["nodes"][position].update(change)


def tensor(value: str, name: str = "self") -> dict[str, Any]:
    return {"name": name, "arg": {"as_tensor": {"name": value}}, "kind": 1}


def argument(position: int, number: int, **change: Any) -> Callable[[Any], None]:
    return lambda document: graph_of(document)["nodes"][position]["inputs"][number].update(change)


def zeros(document: Any) -> None:
    """Zeros of 8 TiB in the place of the relu."""
    size = {"name": "size", "arg": {"as_ints": [2**40]}, "kind": 1}
    graph_of(document)["nodes"][1].update(target="torch.ops.aten.zeros.default", inputs=[size])


def too_many(document: Any) -> None:
    nodes = graph_of(document)["nodes"]
    nodes += [dict(nodes[1], outputs=[{"as_tensor": {"name": f"more_{number}"}}]) for number in range(10_000)]


def mutation(document: Any) -> None:
    spec = {"arg": {"name": "relu"}, "buffer_name": "0.weight"}
    document["graph_module"]["signature"]["output_specs"].insert(0, {"buffer_mutation": spec})


def custom_object(document: Any) -> None:
    spec = {"arg": {"name": "obj", "class_fqn": "evil"}, "custom_obj_name": "obj"}
    document["graph_module"]["signature"]["input_specs"].append({"custom_obj": spec})


GRAPHS = {
    "a custom operator": (node(1, target="torch.ops.evil.run.default"), "operator 1"),
    "a Python function": (node(1, target="os.system"), "operator 1"),
    "an operator of higher order": (node(1, target="torch.ops.higher_order.cond"), "of higher order"),
    "a nested graph": (argument(1, 0, arg={"as_graph": {"name": "g", "graph": {}}}), "as_graph"),
    "strided memory": (node(1, target="torch.ops.aten.as_strided.default"), "as_strided"),
    "uninitialised memory": (node(1, target="torch.ops.aten.empty.memory_format"), "empty"),
    "other storage": (node(1, target="torch.ops.aten.set_.source_Tensor"), "set_"),
    "a value from later on": (argument(0, 0, arg={"as_tensor": {"name": "linear_1"}}), "expected a value from before"),
    "a cycle": (argument(1, 0, arg={"as_tensor": {"name": "relu"}}), "expected a value from before"),
    "an unknown value": (argument(1, 0, arg={"as_tensor": {"name": "nothing"}}), "'nothing'"),
    "a name twice": (node(1, outputs=[{"as_tensor": {"name": "linear"}}]), "expected each name once"),
    "a name that is code": (node(1, outputs=[{"as_tensor": {"name": "x; import os"}}]), "outputs"),
    "no result": (node(1, outputs=[]), "expected a result"),
    "an unknown argument": (node(1, inputs=[tensor("linear", name="evil")]), "no argument 'evil'"),
    "an argument twice": (node(1, inputs=[tensor("linear"), tensor("linear")]), "each argument once"),
    "an argument of another kind": (argument(0, 1, arg={"as_int": 3}), "operator 0"),
    "two forms of an argument": (argument(0, 1, arg={"as_int": 3, "as_none": True}), "expected one of the forms"),
    "a write to a weight": (
        node(1, target="torch.ops.aten.relu_.default", inputs=[tensor("p_0_bias")]),
        "expected it to write to a result",
    ),
    "a change of a buffer": (mutation, "buffer_mutation"),
    "a custom object": (custom_object, "custom_obj"),
    "an unknown field": (lambda document: document.update(evil=1), "evil"),
    "another version": (lambda document: document["schema_version"].update(major=9), "schema version 8, got 9"),
    "too many operators": (too_many, "10000"),
    "a huge result": (zeros, "expected results of at most"),
    "no operators": (lambda document: graph_of(document).update(nodes=[]), "nodes"),
    "an output that is none": (
        lambda document: document["graph_module"]["signature"].update(output_specs=[]),
        "expected a model that returns one tensor",
    ),
    "two inputs": (
        lambda document: document["graph_module"]["signature"]["input_specs"].append(
            {"user_input": {"arg": {"as_tensor": {"name": "other"}}}}
        ),
        "2 inputs",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_not_plain_are_refused_by_place(name: str) -> None:
    change, says = GRAPHS[name]
    problem = refused(changed(change))
    assert problem.code in ("checkpoint_invalid", "unsupported_format", "resource_limit")
    assert says in problem.detail


def test_an_infinite_number_of_json_is_no_size() -> None:
    data = with_members({MODEL: member(MODEL).replace(b'"as_int": 8}', b'"as_int": 1e999}', 1)})
    assert refused(data).code == "checkpoint_invalid"
