"""Parameters that several routes take."""

from typing import Annotated

from fastapi import Header, Query, Request
from fastapi.exceptions import RequestValidationError

from service.auth import OwnerDep

Limit = Annotated[int, Query(ge=1, le=100, description="Items a page.")]
After = Annotated[str | None, Query(max_length=64, description="The id of the last item of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e][\x20-\x7e]*$",
        description="The same key with the same body gets the first answer again, for 24 hours.",
    ),
]


def refuse_unknown(request: Request, owner: OwnerDep) -> None:
    """Refuse query parameters that the operation does not have: a misspelt one would be passed over.

    Args:
        request: The request.
        owner: Whose it is; who has no key is told that first.

    Raises:
        RequestValidationError: There are some; with one fault each.
    """
    method = "get" if request.method == "HEAD" else request.method.lower()
    operation = request.app.openapi()["paths"][request.scope["route"].path_format][method]
    known = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        expected = f"expected {', '.join(known)}" if known else "expected none"
        raise RequestValidationError(
            [
                {"type": "extra_forbidden", "loc": ("query", name), "msg": f"no such query parameter, {expected}"}
                for name in unknown
            ]
        )
