"""The JSON of an exported program, as torch 2.13 writes it (schema version 8): no other field, and no other type.

What describes how the program came about, such as stack traces, is accepted as text and left unread.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from worker.graphs import schema as clean
from worker.graphs.schema import MAX_ITEMS, MAX_OPERATORS
from worker.sandbox.exported.expressions import Expression, parse
from worker.sandbox.tensor_file import MAX_DIMS, MAX_TENSORS

VERSION = 8
MAX_TEXT = 100_000
DTYPES: dict[int, clean.DType] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
MEMORY_FORMATS: dict[int, clean.MemoryFormat] = {
    1: "contiguous_format",
    2: "channels_last",
    3: "channels_last_3d",
    4: "preserve_format",
}
SPECIAL = {"Infinity": float("inf"), "-Infinity": float("-inf")}


def _parsed(text: object) -> Expression:
    if not isinstance(text, str):
        raise ValueError(f"expected an expression as text, got a {type(text).__name__}")
    return parse(text)


def _number(value: object) -> object:
    return SPECIAL.get(value, value) if isinstance(value, str) else value


def _dtype(code: int) -> int:
    if code not in DTYPES:
        raise ValueError(f"expected a boolean, whole or real dtype, got code {code}")
    return code


Name = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = Annotated[float, BeforeValidator(_number)]
DType = Annotated[int, AfterValidator(_dtype)]
Unread = Any


class Strict(BaseModel):
    """Base: no unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OneOf(Strict):
    """Base of unions: exactly one of the fields is there."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected one of the forms of {type(self).__name__}, got {len(self.model_fields_set)}")
        return self

    @property
    def form(self) -> str:
        """The name of the field that is there."""
        (name,) = self.model_fields_set
        return name

    @property
    def content(self) -> Any:
        """Its value."""
        return getattr(self, self.form)


class Device(Strict):
    """A device, which plays no part here."""

    type: Text
    index: Integer | None = None


class SizeHint(OneOf):
    """What an expression was when the program was exported."""

    as_int: Integer = 0
    as_bool: bool = False
    as_float: Real = 0.0


class SizeExpression(Strict):
    """A size, or a comparison of sizes, that is known only when the program runs."""

    expr_str: Annotated[Expression, BeforeValidator(_parsed)]
    hint: SizeHint | None = None


class SymInt(OneOf):
    """A size."""

    as_expr: SizeExpression | None = None
    as_int: Integer = 0


class SymBool(OneOf):
    """A comparison of sizes."""

    as_expr: SizeExpression | None = None
    as_bool: bool = False


class SymFloat(OneOf):
    """A real number that depends on sizes."""

    as_expr: SizeExpression | None = None
    as_float: Real = 0.0


class TensorMeta(Strict):
    """Of a tensor all but its numbers."""

    dtype: DType
    sizes: Annotated[list[SymInt], Field(max_length=MAX_DIMS)]
    requires_grad: bool
    device: Device
    strides: Annotated[list[SymInt], Field(max_length=MAX_DIMS)]
    storage_offset: SymInt
    layout: Literal[7]


class TensorName(Strict):
    """A tensor's value."""

    name: Name


class OptionalTensor(OneOf):
    """A tensor's value, or nothing."""

    as_tensor: TensorName | None = None
    as_none: bool = True


class SizeArgument(OneOf):
    """A size's value, or a number."""

    as_name: Name = ""
    as_int: Integer = 0


class FlagArgument(OneOf):
    """The value of a comparison of sizes, or a constant."""

    as_name: Name = ""
    as_bool: bool = False


class FloatArgument(OneOf):
    """A value, or a number."""

    as_name: Name = ""
    as_float: Real = 0.0


class Argument(OneOf):
    """An argument of an operator. Those that are unread belong to operators that are refused by their name."""

    as_none: bool = True
    as_tensor: TensorName | None = None
    as_tensors: Annotated[list[TensorName], Field(max_length=MAX_ITEMS)] = []
    as_int: Integer = 0
    as_ints: Annotated[list[Integer], Field(max_length=MAX_ITEMS)] = []
    as_float: Real = 0.0
    as_floats: Annotated[list[Real], Field(max_length=MAX_ITEMS)] = []
    as_string: Annotated[str, Field(max_length=100)] = ""
    as_sym_int: SizeArgument | None = None
    as_sym_ints: Annotated[list[SizeArgument], Field(max_length=MAX_ITEMS)] = []
    as_scalar_type: DType = 7
    as_memory_format: Annotated[int, Field(ge=1, le=4)] = 1
    as_layout: Literal[7] = 7
    as_device: Device | None = None
    as_bool: bool = False
    as_bools: Annotated[list[bool], Field(max_length=MAX_ITEMS)] = []
    as_sym_bool: FlagArgument | None = None
    as_optional_tensors: Annotated[list[OptionalTensor], Field(max_length=MAX_ITEMS)] = []
    as_optional_tensor: OptionalTensor | None = None
    as_sym_float: FloatArgument | None = None
    as_graph: Unread = None
    as_custom_obj: Unread = None
    as_operator: Unread = None
    as_complex: Unread = None
    as_sym_bools: Unread = None
    as_sym_floats: Unread = None
    as_strings: Unread = None
    as_nested_tensors: Unread = None
    as_int_lists: Unread = None
    as_float_lists: Unread = None
    as_string_to_argument: Unread = None


class NamedArgument(Strict):
    """An argument with its name in the operator's schema."""

    name: Name
    arg: Argument
    kind: Literal[0, 1, 2] | None = None


class Node(Strict):
    """A call of an operator."""

    target: Annotated[str, Field(max_length=300)]
    inputs: Annotated[list[NamedArgument], Field(max_length=100)]
    outputs: Annotated[list[Argument], Field(max_length=MAX_ITEMS)]
    metadata: dict[Text, Text]
    is_hop_single_tensor_return: bool | None = None
    name: Annotated[str, Field(max_length=256)] | None = None


class ProgramGraph(Strict):
    """Operators in order, and what is known of their results."""

    inputs: Annotated[list[Argument], Field(max_length=MAX_ITEMS)]
    outputs: Annotated[list[Argument], Field(max_length=MAX_ITEMS)]
    nodes: Annotated[list[Node], Field(max_length=2 * MAX_OPERATORS)]
    tensor_values: dict[Name, TensorMeta]
    sym_int_values: dict[Name, SymInt]
    sym_bool_values: dict[Name, SymBool]
    is_single_tensor_return: bool = False
    custom_obj_values: Annotated[dict[Name, Unread], Field(max_length=0)] = {}
    sym_float_values: dict[Name, SymFloat] = {}


class UserInput(Strict):
    """An input that callers give."""

    arg: Argument


class ParameterInput(Strict):
    """A parameter of the model."""

    arg: TensorName
    parameter_name: str


class BufferInput(Strict):
    """A buffer of the model."""

    arg: TensorName
    buffer_name: str
    persistent: bool


class ConstantInput(Strict):
    """A tensor that the model's code held."""

    arg: TensorName
    tensor_constant_name: str


class InputSpec(OneOf):
    """Where the program has a value from that no operator makes."""

    user_input: UserInput | None = None
    parameter: ParameterInput | None = None
    buffer: BufferInput | None = None
    tensor_constant: ConstantInput | None = None
    constant_input: Unread = None
    custom_obj: Unread = None
    token: Unread = None


class OutputSpec(OneOf):
    """What becomes of a value in the end."""

    user_output: UserInput | None = None
    loss_output: Unread = None
    buffer_mutation: Unread = None
    gradient_to_parameter: Unread = None
    gradient_to_user_input: Unread = None
    user_input_mutation: Unread = None
    token: Unread = None
    parameter_mutation: Unread = None


class Signature(Strict):
    """Inputs and outputs."""

    input_specs: Annotated[list[InputSpec], Field(max_length=MAX_ITEMS)]
    output_specs: Annotated[list[OutputSpec], Field(max_length=MAX_ITEMS)]


class ProgramModule(Strict):
    """The graph with its signature."""

    graph: ProgramGraph
    signature: Signature
    module_call_graph: Unread
    metadata: dict[Text, Text] = {}
    treespec_namedtuple_fields: Unread = None


class Range(Strict):
    """Between which numbers a symbol lies."""

    min_val: Integer | None
    max_val: Integer | None


class SchemaVersion(Strict):
    """Of this JSON."""

    major: int
    minor: int


class Program(Strict):
    """An exported program without its tensors."""

    graph_module: ProgramModule
    opset_version: dict[Text, int]
    range_constraints: dict[Text, Range]
    schema_version: SchemaVersion
    verifiers: Unread = None
    torch_version: Text = ""
    guards_code: Unread = None


class Payload(Strict):
    """Where the archive has a tensor's bytes, and what they are."""

    path_name: Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,100}$")]
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None


class Payloads(Strict):
    """Tensors by key."""

    config: Annotated[dict[str, Payload], Field(max_length=MAX_TENSORS)]
