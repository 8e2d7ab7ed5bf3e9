"""The multipart reader gives the same parts however the body is cut, and never fails in an unknown way."""

import asyncio
from collections.abc import AsyncIterator

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.problems import ProblemError
from service.multipart import parts

# Rich in what boundaries are made of.
CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--b", b"\r\n--b", b"x", b"\0\xff"]), max_size=40).map(
    b"".join
)
CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=50)


async def cut(body: bytes, lengths: list[int]) -> AsyncIterator[bytes]:
    start = 0
    while start < len(body):
        for length in lengths:
            yield body[start : start + length]
            start += length


def read(content_type: str, body: bytes, lengths: list[int]) -> list[tuple[str, str | None, bytes]]:
    async def collect() -> list[tuple[str, str | None, bytes]]:
        found = []
        async for part in parts(content_type, cut(body, lengths)):
            content = b"".join([chunk async for chunk in part.chunks])
            found.append((part.name, part.filename, content))
        return found

    return asyncio.run(collect())


@settings(deadline=None, max_examples=60)
@given(contents=st.lists(CONTENT, min_size=1, max_size=4), lengths=CUTS)
def test_parts_are_the_same_however_the_body_is_cut(contents: list[bytes], lengths: list[int]) -> None:
    form = [(f"field{i}", (f"file {i}.bin", content)) for i, content in enumerate(contents)]
    # httpx writes the form, with a boundary of its own choice.
    request = httpx.Request("POST", "http://x", files=form)
    body = request.read()
    found = read(request.headers["content-type"], body, lengths)
    assert found == [(name, filename, content) for name, (filename, content) in form]


@settings(deadline=None, max_examples=60)
@given(body=CONTENT, lengths=CUTS)
def test_a_body_of_no_named_part_is_a_problem_or_an_empty_form(body: bytes, lengths: list[int]) -> None:
    try:
        found = read("multipart/form-data; boundary=b", body, lengths)
        code = None
    except ProblemError as error:
        found, code = [], error.code
    assert found == []
    assert code in {None, "malformed_request"}  # None: the closing delimiter came first
