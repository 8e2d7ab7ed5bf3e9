"""Largest body of a request: small for all but uploads, and counted, since a chunked body does not say its length.

A body that stops arriving is given up, since a part of it is held in memory.
"""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.problems import ProblemError
from service.errors import problem_response

# What a multipart body has around its files.
MULTIPART_EXTRA_BYTES = 64 * 1024


class BodyLimit:
    """Middleware that answers 413 to a body that is, or turns out to be, too large, and 408 to one that stalls."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int, body_silence_s: float) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_upload_bytes
        self.body_silence_s = body_silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what it receives."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        limit = self._limit(request)
        error = ProblemError("too_large", f"expected at most {limit} bytes")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            await problem_response(request, error)(scope, receive, send)
            return
        received, complete = 0, False

        async def counted() -> Message:
            nonlocal received, complete
            if complete:  # what is waited for now is the end of the connection
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self.body_silence_s)
            except TimeoutError:
                detail = f"nothing of the body arrived for {self.body_silence_s:g} seconds"
                raise ProblemError("request_timeout", detail) from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise error
            return message

        await self.app(scope, counted, send)

    def _limit(self, request: Request) -> int:
        if request.method != "POST":
            return self.max_body_bytes
        multipart = request.headers.get("content-type", "").startswith("multipart/form-data")
        if request.url.path == "/v1/files":
            return self.max_upload_bytes + (MULTIPART_EXTRA_BYTES if multipart else 0)
        if request.url.path == "/v1/jobs" and multipart:
            # A checkpoint, a data set and the settings.
            return 2 * self.max_upload_bytes + self.max_body_bytes + MULTIPART_EXTRA_BYTES
        return self.max_body_bytes
