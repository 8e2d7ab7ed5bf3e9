"""The parts of the OpenAPI page that FastAPI cannot read off the code."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from jobs.schemas.problems import Problem
from jobs.schemas.settings import JobSettings

_SETTINGS = {"$ref": "#/components/schemas/JobSettings"}
_BINARY = {"type": "string", "format": "binary"}

SETTINGS_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _SETTINGS}}}
}
JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _SETTINGS},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["checkpoint"],
                    "properties": {
                        "checkpoint": _BINARY,
                        "dataset": _BINARY,
                        "settings": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "As in JSON, without what the form has as a file.",
                        },
                    },
                }
            },
        },
    }
}


def add_schemas(app: FastAPI) -> None:
    """Let the OpenAPI page of `app` define what is only referred to, and drop FastAPI's own form of errors."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _, definitions = models_json_schema(
                [(JobSettings, "validation"), (Problem, "serialization")],
                ref_template="#/components/schemas/{model}",
            )
            page = generate()
            schemas = page["components"]["schemas"]
            schemas.update(definitions["$defs"])
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = page
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
