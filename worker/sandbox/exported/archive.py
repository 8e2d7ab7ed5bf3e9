"""The archive of an exported program: which members it may have, and its JSON."""

import json
import re
from typing import Any, NoReturn, TypeVar
from zipfile import ZipFile

from pydantic import ValidationError

from jobs.problems import ProblemError
from worker.sandbox.archives import require_stored
from worker.sandbox.exported.schema import Payloads, Program, Strict
from worker.sandbox.tensor_file import quoted

INVALID = "checkpoint_invalid"
Document = TypeVar("Document", bound=Strict)
MAX_JSON_BYTES = 32 * 2**20
FIRST = re.compile(r"data/(weights|constants)/")
MODEL = re.compile(r"models/(\w{1,100})\.json")
# All that torch.export.save writes. Sample inputs are a pickle, and are never looked at.
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/\w{1,100}\.json"
    r"|data/(weights|constants)/\w{1,100}(\.json)?|data/sample_inputs/\w{1,100}\.pt"
)


def is_program(names: list[str]) -> bool:
    """Whether a zip with such members is an exported program."""
    return any(name.endswith(("archive_format", "/models/model.json")) for name in names)


class Archive:
    """The members of an exported program, by their names within the folder that holds them all.

    Args:
        file: Its directory was checked.

    Raises:
        ProblemError: `checkpoint_invalid` or `unsupported_format` for members that torch.export.save does not write,
            for compressed ones, and for more than one program.
    """

    def __init__(self, file: ZipFile) -> None:
        require_stored(file, INVALID)
        self._file = file
        names = file.namelist()
        self._root = names[0].partition("/")[0] + "/"
        models = []
        for name in names:
            inner = name.removeprefix(self._root)
            if not name.startswith(self._root) or not MEMBERS.fullmatch(inner):
                _refuse_member(name, inner)
            if found := MODEL.fullmatch(inner):
                models.append(found[1])
        if not FIRST.match(names[0].removeprefix(self._root)):
            raise ProblemError(INVALID, f"expected the tensors at the start of the archive, got {quoted(names[0])}")
        if len(models) != 1:
            raise ProblemError(INVALID, f"expected one exported program in the archive, got {len(models)}")
        self.model = models[0]
        self._expect("archive_format", b"pt2")
        self._expect("byteorder", b"little")

    def program(self) -> Program:
        """The graph and its signature."""
        return self._json(f"models/{self.model}.json", Program)

    def payloads(self, folder: str) -> Payloads:
        """The directory of "weights" or "constants"."""
        return self._json(f"data/{folder}/{self.model}_{folder}_config.json", Payloads)

    def read(self, name: str, where: str) -> bytes:
        """The bytes of a member.

        Raises:
            ProblemError: There is no such member.
        """
        try:
            info = self._file.getinfo(self._root + name)
        except KeyError:
            raise ProblemError(INVALID, f"{where}: expected the member {quoted(name)} in the archive") from None
        return self._file.read(info)

    def _expect(self, name: str, content: bytes) -> None:
        if (found := self.read(name, "the archive")) != content:
            raise ProblemError(INVALID, f"{name}: expected {content.decode()}, got {quoted(found)}")

    def _json(self, name: str, schema: type[Document]) -> Document:
        text = self.read(name, "the archive")
        if len(text) > MAX_JSON_BYTES:
            raise ProblemError(INVALID, f"{name}: expected at most {MAX_JSON_BYTES} bytes, got {len(text)}")
        try:
            document = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
            return schema.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ProblemError(
                INVALID, f"{name}: {place[:300]}: {message[:300]}, got {quoted(first['input'])}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ProblemError(INVALID, f"{name}: expected JSON, got what is none: {str(error)[:200]}") from error


def _refuse_member(name: str, inner: str) -> NoReturn:
    if inner.startswith(("data/aotinductor/", "executorch/")):
        raise ProblemError(
            "checkpoint_contains_code", f"zip member {quoted(name)}: expected a graph, got compiled code"
        )
    raise ProblemError(INVALID, f"zip member {quoted(name)}: expected only what torch.export.save writes")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there more than once")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
