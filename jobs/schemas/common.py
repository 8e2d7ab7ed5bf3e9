"""What several wire types share."""

from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer

Item = TypeVar("Item")


def rfc3339(time: datetime) -> str:
    """A time as `2026-01-31T12:00:00.000Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Request(BaseModel):
    """Base of what clients send: unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Page(BaseModel, Generic[Item]):
    """One page of a list; the next one starts `after` the id of its last item."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
