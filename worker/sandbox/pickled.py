"""Pickles of plain data, read without running them.

`pickletools.genops` cuts the stream into opcodes; the few that plain data need are interpreted here, on a stack of our
own. Nothing is imported and nothing is called: the names that pickles of numpy arrays and of byte strings hold are
compared with a list and stand for themselves. The grammar is flat, so no value can be deep or refer to itself:

    dict  = {str or bytes: plain, list or array}
    list  = [plain, ...]
    plain = int, bool, str, bytes or None
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from jobs.problems import ProblemError
from worker.sandbox.tensor_file import MAX_DIMS, quoted

MAX_OPCODES = 2_000_000  # the largest file of CIFAR-100 takes about 300,000
MAX_MEMO = 1_000_000
MAX_STACK = 10_000  # picklers write lists and dicts in batches of 1000
MAX_MARKS = 16
MAX_LINE = 1000

RECONSTRUCT, FROM_BUFFER, NDARRAY, DTYPE, ENCODE = "_reconstruct", "_frombuffer", "ndarray", "dtype", "encode"
# "module name" of every global that is recognised. numpy 2 moved its own; the second spelling is the newer one.
GLOBALS = {
    "numpy.core.multiarray _reconstruct": RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": RECONSTRUCT,
    "numpy.core.numeric _frombuffer": FROM_BUFFER,
    "numpy._core.numeric _frombuffer": FROM_BUFFER,
    "numpy ndarray": NDARRAY,
    "numpy dtype": DTYPE,
    "_codecs encode": ENCODE,
}
UINT8 = {"u1", "|u1", "uint8"}

Plain = int | str | bytes | None


@dataclass(frozen=True)
class Name:
    """A global that is recognised: one of the values of `GLOBALS`."""

    what: str


@dataclass(frozen=True)
class Uint8:
    """numpy's dtype of unsigned 8-bit integers, the only one that is accepted."""


@dataclass
class PickledArray:
    """A numpy array of uint8, empty until its state was read.

    Attributes:
        shape: Its sizes.
        data: As many bytes.
        fortran: Whether the first index runs fastest.
    """

    shape: tuple[int, ...] = (0,)
    data: bytes = b""
    fortran: bool = False


def read_pickle(stream: BinaryIO, size: int, where: str) -> dict[str, Any]:
    """The dict that a pickle holds.

    Args:
        stream: At the pickle's first byte.
        size: The most bytes that the stream has; no opcode may ask for more than are left.
        where: The place in the upload, for messages.

    Returns:
        Values by key, keys as text whether they were text or bytes: int, bool, str, bytes, None, a flat list of
        these, or a `PickledArray`. Byte strings of Python 2 are bytes.

    Raises:
        ProblemError: `dataset_invalid` for any opcode or global that such data do not need, and for other values than
            these; `resource_limit`; `truncated_file`.
    """
    bounded = _Bounded(stream, size, where)
    machine = _Machine(size, where)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(bounded)):  # type: ignore[arg-type]
            if count >= MAX_OPCODES:
                raise ProblemError("resource_limit", f"{where}: expected a pickle of at most {MAX_OPCODES} opcodes")
            machine.step(opcode.name, argument)
    except (ValueError, EOFError) as error:  # of genops
        raise ProblemError("truncated_file", f"{where}: the pickle is cut short or damaged") from error
    if bounded.more():
        raise ProblemError("dataset_invalid", f"{where}: more bytes after the end of the pickle")
    return machine.result()


class _Bounded:
    """A stream that refuses to read more than it has: a length in a pickle is not to be believed."""

    def __init__(self, stream: BinaryIO, size: int, where: str) -> None:
        self._stream, self._left, self._where = stream, size, where

    def read(self, count: int) -> bytes:
        if count > self._left:
            raise ProblemError(
                "truncated_file", f"{self._where}: the pickle asks for {count} bytes, {self._left} are left"
            )
        self._left -= count
        return self._stream.read(count)

    def readline(self) -> bytes:
        line = self._stream.readline(MAX_LINE)
        self._left -= len(line)
        return line

    def more(self) -> bool:
        return bool(self._stream.read(1))


class _Machine:
    """The stack, the marks on it, and the memo."""

    def __init__(self, size: int, where: str) -> None:
        self._left = size
        self._where = where
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._done: list[Any] = []

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one opcode."""
        action = ACTIONS.get(opcode)
        if action is None:
            raise self.refused(f"the pickle uses the opcode {opcode}, which plain data do not need; nothing of it ran")
        action(self, argument)
        if len(self._stack) > MAX_STACK or len(self._marks) > MAX_MARKS or len(self._memo) > MAX_MEMO:
            raise ProblemError("resource_limit", f"{self._where}: the pickle holds too much at once")

    def result(self) -> dict[str, Any]:
        """The dict that was left when the pickle ended."""
        (found,) = self._done
        if not isinstance(found, dict):
            raise self.refused(f"expected a dict in the pickle, got {type(found).__name__}")
        return found

    def refused(self, detail: str) -> ProblemError:
        return ProblemError("dataset_invalid", f"{self._where}: {detail}")

    def damaged(self) -> ProblemError:
        return ProblemError("truncated_file", f"{self._where}: the pickle is damaged")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.damaged()
        return self._stack.pop()

    def top(self) -> Any:
        if not self._stack:
            raise self.damaged()
        return self._stack[-1]

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[Any]:
        if not self._marks:
            raise self.damaged()
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def put(self, place: int) -> None:
        self._memo[place] = self.top()

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, place: int) -> None:
        if place not in self._memo:
            raise self.damaged()
        self.push(self._memo[place])

    def stop(self) -> None:
        self._done.append(self.pop())

    def make_tuple(self, values: list[Any]) -> None:
        for value in values:
            parts = value if isinstance(value, tuple) else (value,)
            if not all(_is_plain(part) or isinstance(part, Name | Uint8) for part in parts):
                raise self.refused("expected a flat tuple in the pickle, got nested values")
        self.push(tuple(values))

    def extend(self, values: list[Any]) -> None:
        found = self.top()
        if not isinstance(found, list):
            raise self.refused(f"expected a list to append to, got {type(found).__name__}")
        if not all(_is_plain(value) for value in values):
            raise self.refused("expected a list of numbers or texts in the pickle, got nested values")
        found.extend(values)

    def update(self, values: list[Any]) -> None:
        found = self.top()
        if not isinstance(found, dict) or len(values) % 2:
            raise self.refused(f"expected a dict and pairs for it, got {type(found).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | bytes):
                raise self.refused(f"expected texts as keys of the dict, got {type(key).__name__}")
            if not (_is_plain(value) or isinstance(value, list | PickledArray)):
                raise self.refused(f"expected numbers, texts, lists or arrays in the dict, got {type(value).__name__}")
            found[key if isinstance(key, str) else key.decode("latin-1")] = value

    def name(self, text: str) -> None:
        if text not in GLOBALS:
            named = quoted(text.replace(" ", "."))
            raise self.refused(f"the pickle asks for {named}, which plain data do not need; nothing of it was loaded")
        self.push(Name(GLOBALS[text]))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self.damaged()
        self.name(f"{module} {name}")

    def reduce(self) -> None:
        """What a call stands for; of the calls that are known, none is made."""
        arguments, callee = self.pop(), self.pop()
        match callee, arguments:
            case Name(what="_reconstruct"), (Name(what="ndarray"), (0,), b"b" | "b"):
                self.push(PickledArray())
            case Name(what="dtype"), (str() | bytes() as dtype, *_):
                text = dtype if isinstance(dtype, str) else dtype.decode("latin-1")
                if text not in UINT8:
                    raise self.refused(f"expected an array of uint8, got the dtype {quoted(text)}")
                self.push(Uint8())
            case Name(what="encode"), (str() as text, "latin1" | b"latin1"):
                self.push(self._encoded(text))
            case Name(what="_frombuffer"), (bytes() as data, Uint8(), tuple() as shape, "C" | "F" as order):
                self.push(self._array(shape, data, order == "F"))
            case _:
                raise self.refused("the pickle asks for a call that plain data do not need; nothing of it ran")

    def _encoded(self, text: str) -> bytes:
        """The bytes that Python 2 had; each text once, so that they are no more than the pickle."""
        self._left -= len(text)
        if self._left < 0:
            raise ProblemError("resource_limit", f"{self._where}: the texts to encode are more than the pickle holds")
        return text.encode("latin-1")

    def build(self) -> None:
        """Take the state of an array or of its dtype."""
        state, target = self.pop(), self.top()
        match target, state:
            case PickledArray(), (int(), tuple() as shape, Uint8(), bool() as fortran, bytes() as data):
                found = self._array(shape, data, fortran)
                target.shape, target.data, target.fortran = found.shape, found.data, found.fortran
            case Uint8(), (int(), _, None, None, None, *_):
                return
            case _:
                raise self.refused("expected the state of an array of uint8, got another one; nothing of it ran")

    def _array(self, shape: tuple[Any, ...], data: bytes, fortran: bool) -> PickledArray:
        if len(shape) > MAX_DIMS or not all(type(size) is int and size >= 0 for size in shape):
            raise self.refused(f"expected the shape of an array, got {quoted(shape)}")
        if math.prod(shape) != len(data):
            raise self.refused(f"expected as many bytes as the shape {quoted(shape)} has numbers, got {len(data)}")
        return PickledArray(shape, data, fortran)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | str | bytes)


def _no_argument(action: Callable[[_Machine], None]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: action(machine)


def _values(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _bytes(machine: _Machine, argument: Any) -> None:
    # genops hands out the byte strings of Python 2 as latin-1 text.
    machine.push(argument.encode("latin-1") if isinstance(argument, str) else bytes(argument))


def _last(count: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        machine.make_tuple([machine.pop() for _ in range(count)][::-1])

    return make


def _container(kind: Callable[[], list[Any] | dict[str, Any]]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(kind())


def _whole_list(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push([])
    machine.extend(values)


def _whole_dict(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.push({})
    machine.update(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.update([key, value])


Action = Callable[[_Machine, Any], None]
# Every opcode that is interpreted; https://docs.python.org/3.11/library/pickletools.html
ACTIONS: dict[str, Action] = {
    **dict.fromkeys(["PROTO", "FRAME"], _no_argument(lambda machine: None)),
    **dict.fromkeys(["INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"], _values),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(["UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"], _values),
    **dict.fromkeys(["STRING", "BINSTRING", "SHORT_BINSTRING"], _bytes),
    **dict.fromkeys(["SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"], _bytes),
    "EMPTY_DICT": _container(dict),
    "EMPTY_LIST": _container(list),
    "EMPTY_TUPLE": _last(0),
    "TUPLE1": _last(1),
    "TUPLE2": _last(2),
    "TUPLE3": _last(3),
    "MARK": _no_argument(_Machine.mark),
    "TUPLE": _no_argument(lambda machine: machine.make_tuple(machine.since_mark())),
    "LIST": _no_argument(_whole_list),
    "DICT": _no_argument(_whole_dict),
    "APPEND": _no_argument(lambda machine: machine.extend([machine.pop()])),
    "APPENDS": _no_argument(lambda machine: machine.extend(machine.since_mark())),
    "SETITEM": _no_argument(_set_item),
    "SETITEMS": _no_argument(lambda machine: machine.update(machine.since_mark())),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _Machine.put),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], _Machine.get),
    "MEMOIZE": _no_argument(_Machine.memoize),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _no_argument(_Machine.stack_name),
    "REDUCE": _no_argument(_Machine.reduce),
    "BUILD": _no_argument(_Machine.build),
    "STOP": _no_argument(_Machine.stop),
}
