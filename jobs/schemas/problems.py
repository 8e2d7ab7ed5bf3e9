"""Errors on the wire: RFC 9457 problems."""

from pydantic import BaseModel, Field


class ProblemFault(BaseModel):
    """One fault inside a problem."""

    pointer: str = Field(description="Where: a JSON pointer into the request, or the name of a tensor.")
    detail: str
    code: str


class Problem(BaseModel):
    """An error as `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs.")
    instance: str | None = None
    request_id: str | None = None
    errors: list[ProblemFault] = []
