"""The graph of an exported program, written down anew: known operators and plain arguments, and nothing else."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from jobs.problems import ProblemError
from worker.graphs import schema as clean
from worker.graphs.operators import NORMS_WITH_STATISTICS, OPERATORS, SWITCHES
from worker.sandbox.exported.archive import INVALID
from worker.sandbox.exported.expressions import Symbol
from worker.sandbox.exported.schema import (
    DTYPES,
    MEMORY_FORMATS,
    Argument,
    FlagArgument,
    FloatArgument,
    InputSpec,
    Node,
    OptionalTensor,
    Program,
    SizeArgument,
    SizeHint,
    TensorMeta,
    TensorName,
)
from worker.sandbox.tensor_file import quoted

# They state again what the shapes say, and return nothing.
ASSERTIONS = {
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten._assert_async.msg",
    "aten.sym_constrain_range_for_size.default",
    "aten.sym_constrain_range.default",
}
# The same without a device: everything is computed where the input is.
WITHOUT_DEVICE = {"aten.to.device": "aten.to.dtype"}
COUNTER = ".num_batches_tracked"
COUNTING = "aten.add_.Tensor"
OTHER_WAY = "to use the weights alone, save model.state_dict() with torch.save"


def clean_graph(program: Program) -> clean.Graph:
    """The graph of a program with one input and one output.

    Flags and probabilities that tell training from evaluation become such as follow the model's mode. If any of them
    was on when the program was exported, those that were off stay off: such a norm was frozen on purpose.

    Raises:
        ProblemError: `unsupported_format` for a program of another kind; `checkpoint_invalid` for operators that are
            not known and for values that are used before they are there.
    """
    specs = program.graph_module.signature.input_specs
    held = [found for spec in specs if (found := _held(spec)) is not None]
    nodes = [node for node in program.graph_module.graph.nodes if _operator(node) not in ASSERTIONS]
    for position, node in enumerate(nodes):
        _require_known(position, node)
    nodes = _without_counting(nodes, {item.name for item in held if item.key.endswith(COUNTER)})
    in_training = any(_is_on(node) for node in nodes)
    try:
        return clean.Graph(
            input=_input(program),
            held=tuple(held),
            nodes=tuple(_node(position, node, in_training) for position, node in enumerate(nodes)),
            output=_output(program),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{place}: {first['msg']}".removeprefix(": ").replace("Value error, ", "")
        raise ProblemError(INVALID, f"the graph: {message[:400]}") from error


def _held(spec: InputSpec) -> clean.Held | None:
    """The tensor of the model that an input of the graph is; None for what callers give, and for what is no tensor."""
    match spec.form:
        case "parameter":
            return _named(spec.content.arg, spec.content.parameter_name, "parameter")
        case "buffer":
            return _named(
                spec.content.arg, spec.content.buffer_name, "buffer" if spec.content.persistent else "constant"
            )
        case "tensor_constant":
            return _named(spec.content.arg, spec.content.tensor_constant_name, "constant")
        case "user_input" | "constant_input":
            return None
    raise _other_kind(f"expected tensors as inputs of the graph, got a {spec.form}")


def _named(name: TensorName, key: str, kind: Any) -> clean.Held:
    try:
        return clean.Held(name=name.name, key=key, kind=kind)
    except ValidationError as error:
        raise ProblemError(INVALID, f"expected the key of a tensor, got {quoted(key)}") from error


def _input(program: Program) -> clean.Input:
    """The one input that callers give."""
    arguments = [spec.content.arg for spec in program.graph_module.signature.input_specs if spec.form == "user_input"]
    if len(arguments) != 1 or arguments[0].form != "as_tensor":
        raise _other_kind(f"expected a model that takes one tensor, got one with {len(arguments)} inputs")
    name = arguments[0].content.name
    meta = program.graph_module.graph.tensor_values.get(name)
    if meta is None or not meta.sizes:
        raise _other_kind(f"input {name!r}: expected a shape (batch, ...), got none")
    return clean.Input(name=name, dtype=DTYPES[meta.dtype], sizes=_sizes(name, meta, program))


def _sizes(name: str, meta: TensorMeta, program: Program) -> tuple[clean.Size, ...]:
    sizes, symbols = [], set()
    for position, size in enumerate(meta.sizes):
        found = size.content.expr_str if size.form == "as_expr" else size.content
        where = f"input {name!r}, dimension {position}"
        if isinstance(found, Symbol) and found.name not in symbols:
            symbols.add(found.name)
            sizes.append(_range(found, size.content.hint, program))
        elif type(found) is int and 1 <= found < 2**40:
            sizes.append(clean.Size(least=found, most=found, example=found))
        else:
            raise _other_kind(f"{where}: expected a number, or a size that depends on no other, got {quoted(found)}")
    return tuple(sizes)


def _range(symbol: Symbol, hint: SizeHint | None, program: Program) -> clean.Size:
    """Between which sizes a program takes a dimension, and which it was exported with."""
    limits = program.range_constraints.get(symbol.name)
    least = max(1, limits.min_val or 1) if limits is not None else 1
    most = limits.max_val if limits is not None else None
    if most is not None and most >= 2**40:  # torch writes the largest number there is where it has no limit
        most = None
    example = hint.content if hint is not None and hint.form == "as_int" else least
    return clean.Size(least=least, most=most, example=example)


def _output(program: Program) -> str:
    specs = program.graph_module.signature.output_specs
    for spec in specs:
        if spec.form != "user_output":
            raise _other_kind(
                f"expected a graph that changes nothing, got a {spec.form}: export the model without decompositions"
            )
    if len(specs) != 1 or specs[0].content.arg.form != "as_tensor":
        raise _other_kind(f"expected a model that returns one tensor, got {len(specs)} outputs")
    return str(specs[0].content.arg.content.name)


def _operator(node: Node) -> str:
    name = node.target.removeprefix("torch.ops.")
    return WITHOUT_DEVICE.get(name, name)


def _require_known(position: int, node: Node) -> None:
    if _operator(node) not in OPERATORS:
        kind = "of higher order" if ".higher_order." in node.target else "that is not known"
        raise ProblemError(
            INVALID,
            f"operator {position}: expected one of torch's ordinary operators, got one {kind}: {quoted(node.target)}; "
            f"{OTHER_WAY}",
        )


def _without_counting(nodes: Iterable[Node], counters: set[str]) -> list[Node]:
    """The operators but those that count the batches of a batch norm: in training the norm itself does so here.

    Args:
        nodes: Of the graph.
        counters: Names of the buffers with the counts.
    """
    counted, kept = set(counters), []
    for node in nodes:
        first = node.inputs[0].arg if node.inputs else None
        if _operator(node) == COUNTING and first is not None and counted.intersection(_tensors(first)):
            counted.update(name for output in node.outputs for name in _tensors(output))  # the norm may be used again
        else:
            kept.append(node)
    return kept


def _tensors(argument: Argument) -> list[str]:
    """The name of the tensor that an argument is, if it is one."""
    return [argument.content.name] if argument.form == "as_tensor" else []


def _is_on(node: Node) -> bool:
    """Whether an operator was in training mode."""
    switch = _switch(node)
    return switch is not None and bool(switch.arg.content)


def _switch(node: Node) -> Any:
    """The argument that tells training from evaluation; None for a norm without statistics to fall back on."""
    given = {named.name: named for named in node.inputs}
    if _operator(node) in NORMS_WITH_STATISTICS:
        mean = given.get("running_mean")
        if mean is None or mean.arg.form == "as_none":
            return None
    found = given.get(SWITCHES.get(_operator(node), ""))
    return found if found is not None and found.arg.form in ("as_bool", "as_float", "as_int") else None


def _node(position: int, node: Node, in_training: bool) -> clean.Node:
    where = f"operator {position} ({_operator(node)})"
    switch = _switch(node)
    arguments: dict[str, Any] = {}
    for named in node.inputs:
        if named.name in arguments:
            raise ProblemError(INVALID, f"{where}: expected each argument once, got {named.name!r} again")
        if named.arg.form in ("as_device", "as_layout") or named.name in ("device", "layout", "pin_memory"):
            continue
        value = _value(where, named.arg)
        arguments[named.name] = _switched(node, value, in_training) if named is switch else value
    return clean.Node(operator=_operator(node), arguments=arguments, results=_results(where, node.outputs))


def _switched(node: Node, value: Any, in_training: bool) -> Any:
    """A flag or probability that follows the model's mode, or stays off."""
    momentum = next((named.arg.content for named in node.inputs if named.name == "momentum"), None)
    if _operator(node) in NORMS_WITH_STATISTICS and momentum == 0:
        return False  # statistics that never move were frozen on purpose
    if value is False and not in_training:
        return clean.InTraining(in_training=True)
    return clean.InTraining(in_training=value) if value else value


def _value(where: str, argument: Argument) -> Any:
    content = argument.content
    match argument.form:
        case "as_none":
            return None
        case "as_int" | "as_float" | "as_bool" | "as_string":
            return content
        case "as_ints" | "as_floats" | "as_bools":
            return tuple(content)
        case "as_tensor" | "as_optional_tensor" | "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _item(content)
        case "as_tensors" | "as_optional_tensors" | "as_sym_ints":
            return tuple(_item(item) for item in content)
        case "as_scalar_type":
            return clean.OfType(dtype=DTYPES[content])
        case "as_memory_format":
            return clean.InFormat(memory_format=MEMORY_FORMATS[content])
    raise ProblemError(INVALID, f"{where}: expected tensors and numbers as arguments, got {argument.form}")


def _item(item: TensorName | OptionalTensor | SizeArgument | FlagArgument | FloatArgument) -> Any:
    """A reference to a value, a number or None."""
    if isinstance(item, TensorName):
        return clean.Reference(value=item.name)
    if item.form == "as_name":
        return clean.Reference(value=item.content)
    if item.form == "as_none":
        return None
    return _item(item.content) if item.form == "as_tensor" else item.content


def _results(where: str, outputs: Iterable[Argument]) -> str | tuple[str, ...]:
    """The name of a single result, or those of the items of a tuple or list."""
    found: list[str] = []
    several = False
    for output in outputs:
        match output.form:
            case "as_tensor":
                found.append(output.content.name)
            case "as_tensors":
                several = True
                found += [item.name for item in output.content]
            case "as_sym_int" | "as_sym_bool" | "as_sym_float" if output.content.form == "as_name":
                found.append(output.content.content)
            case _:
                raise ProblemError(INVALID, f"{where}: expected tensors and sizes as results, got {output.form}")
    if not found:
        raise ProblemError(INVALID, f"{where}: expected a result, got none")
    return tuple(found) if several or len(found) > 1 else found[0]


def _other_kind(detail: str) -> ProblemError:
    return ProblemError("unsupported_format", f"the exported program: {detail}; {OTHER_WAY}")
