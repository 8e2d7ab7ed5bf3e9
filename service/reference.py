"""The pages of docs/ that are made from the code: `python -m service.reference` writes them anew."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jobs.problems import PROBLEMS
from jobs.schemas.settings import JobSettings

DOCS = Path(__file__).parent.parent / "docs"
Schema = Mapping[str, Any]


class Setting(NamedTuple):
    """One setting of a job."""

    path: str
    allowed: str
    default: str
    description: str


def settings_page() -> str:
    """`settings.md`: every setting of a job, with what it may be, its default and what it does."""
    schema = JobSettings.model_json_schema()
    lines = [
        "# Settings of a job",
        "",
        "The JSON body of `POST /v1/jobs`, the `settings` of its form, and of `POST /v1/jobs/estimate`. A path such as",
        '`fine_tune.epochs` stands for `{"fine_tune": {"epochs": 3}}`. `adtn compress --help` names the options of the',
        "command line. What they are good for is in [jobs.md](jobs.md) and [data.md](data.md).",
        "",
        "| setting | may be | default | what it does |",
        "|---|---|---|---|",
        *(f"| `{row.path}` | {row.allowed} | {row.default} | {row.description} |" for row in settings_of(schema)),
    ]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """`errors.md`: every code that a problem may have."""
    lines = [
        "# Errors",
        "",
        "A request that is refused is answered with a problem (RFC 9457): `code` is one of these and stays the same,",
        "`detail` says what was expected, what came and where, and `errors` lists the faults where there are several,",
        "or where one has a place: a JSON pointer into the request, or the name of a tensor. A rejected file and a",
        "failed job have the same in their field `error`.",
        "",
        "| code | HTTP status | meaning |",
        "|---|---|---|",
        *(f"| `{code}` | {status} | {title} |" for code, (status, title) in PROBLEMS.items()),
    ]
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings_page, "errors.md": errors_page}


def settings_of(schema: Schema, prefix: str = "", known: Schema | None = None) -> Iterator[Setting]:
    """The settings of a JSON schema, those within others after them.

    Args:
        schema: Of an object.
        prefix: Of their paths.
        known: Schemas by name, for references; those of `schema` itself by default.
    """
    known = known or schema["$defs"]
    for name, value in schema["properties"].items():
        path = prefix + name
        options = value.get("anyOf") or value.get("oneOf") or [value]
        objects = [known[option["$ref"].rpartition("/")[2]] for option in options if "$ref" in option]
        plain = [option for option in options if "$ref" not in option and option.get("type") != "null"]
        if plain or value.get("description"):
            allowed = " or ".join(
                dict.fromkeys(["an object" for _ in objects] + [_allowed(option) for option in plain])
            )
            yield Setting(path, allowed, _default(name, value, schema), value.get("description", ""))
        for found in objects:
            yield from settings_of(found, f"{path}.", known)


def _allowed(schema: Schema) -> str:
    """What a value may be."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    kind = {"integer": "whole number", "number": "number", "array": "list", "boolean": "true or false"}
    name = str(schema.get("type", "any"))
    text = kind.get(name, name)
    if "exclusiveMinimum" in schema:
        text += f" above {schema['exclusiveMinimum']:,} and up"
    elif "minimum" in schema:
        text += f" from {schema['minimum']:,}"
    return f"{text} to {schema['maximum']:,}" if "maximum" in schema else text


def _default(name: str, value: Schema, schema: Schema) -> str:
    if name in schema.get("required", ()):
        return "required"
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
