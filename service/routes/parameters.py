"""Parameters that several routes take."""

from typing import Annotated

from fastapi import Header, Query

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
