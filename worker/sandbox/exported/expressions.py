"""Sizes as an exported program writes them: `Mul(Integer(2), Symbol('s0', positive=True, integer=True))`.

A grammar of a few functions of whole numbers. What it does not have is refused; nothing is evaluated.
"""

import re
from dataclasses import dataclass

MAX_LENGTH = 2000
MAX_DEPTH = 20
FUNCTIONS = {
    **dict.fromkeys(("Add", "Mul", "Max", "Min", "And", "Or"), range(1, 100)),
    **dict.fromkeys(("FloorDiv", "CleanDiv", "Mod", "PythonMod", "IntTrueDiv"), range(2, 3)),
    **dict.fromkeys(("Equality", "Eq", "Unequality", "Ne", "LessThan", "Le", "StrictLessThan", "Lt"), range(2, 3)),
    **dict.fromkeys(("GreaterThan", "Ge", "StrictGreaterThan", "Gt"), range(2, 3)),
    "Not": range(1, 2),
}
"""The names of functions, and how many arguments they take."""
ASSUMPTIONS = {"positive", "integer", "nonnegative", "negative", "real", "finite", "zero"}

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z][A-Za-z0-9_]*)|(?P<number>-?[0-9]{1,19})|(?P<text>'\w{1,100}')|(?P<sign>[(),=]))"
)


@dataclass(frozen=True)
class Symbol:
    """A size that is known only when the program runs."""

    name: str


@dataclass(frozen=True)
class Operation:
    """A function of other expressions."""

    function: str
    arguments: tuple["Expression", ...]


Expression = int | bool | Symbol | Operation


def parse(text: str) -> Expression:
    """The expression that a text is.

    Raises:
        ValueError: It is none of this grammar.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expected an expression of at most {MAX_LENGTH} characters, got {len(text)}")
    tokens = _tokens(text)
    reader = _Reader(tokens)
    found = reader.expression(0)
    reader.end()
    return found


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"expected an expression of sizes, got {text[position : position + 40]!a}")
        tokens.append(match[0].strip())
        position = match.end()
    return tokens


class _Reader:
    """Reads tokens from left to right; it goes one level deeper for each bracket."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]

    def expression(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ValueError(f"expected an expression of at most {MAX_DEPTH} levels")
        word = self._next()
        if _is_number(word):
            return int(word)
        if word in ("true", "false"):
            return word == "true"
        self._expect("(")
        match word:
            case "Symbol":
                return self._symbol()
            case "Integer":
                number = self._next()
                if not _is_number(number):
                    raise ValueError(f"expected a whole number, got {number!a}")
                self._expect(")")
                return int(number)
            case _ if word in FUNCTIONS:
                return self._operation(word, depth)
        raise ValueError(f"expected a function of sizes, such as Add, got {word[:40]!a}")

    def end(self) -> None:
        """Refuse tokens that are left."""
        if self._tokens:
            raise ValueError(f"expected the expression to end, got {self._tokens[-1]!a}")

    def _symbol(self) -> Symbol:
        name = self._next()
        if not name.startswith("'"):
            raise ValueError(f"expected the name of a symbol in quotes, got {name!a}")
        while self._next_of(",", ")") == ",":
            assumption = self._next()
            if assumption not in ASSUMPTIONS:
                raise ValueError(f"expected an assumption about a symbol, got {assumption[:40]!a}")
            self._expect("=")
            self._next_of("True", "False")
        return Symbol(name.strip("'"))

    def _operation(self, function: str, depth: int) -> Operation:
        arguments = [self.expression(depth + 1)]
        while self._next_of(",", ")") == ",":
            arguments.append(self.expression(depth + 1))
        if len(arguments) not in FUNCTIONS[function]:
            raise ValueError(f"expected another number of arguments for {function}, got {len(arguments)}")
        return Operation(function, tuple(arguments))

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("expected an expression that is whole, got one that is cut short")
        return self._tokens.pop()

    def _next_of(self, *wanted: str) -> str:
        found = self._next()
        if found not in wanted:
            raise ValueError(f"expected {' or '.join(wanted)}, got {found[:40]!a}")
        return found

    def _expect(self, wanted: str) -> None:
        self._next_of(wanted)


def _is_number(token: str) -> bool:
    return token.removeprefix("-").isdigit()
