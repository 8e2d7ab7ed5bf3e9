"""Largest body of a request: small for all but uploads, and counted, since a chunked body does not say its length."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.problems import ProblemError
from service.errors import problem_response

# What a multipart body has around its files.
MULTIPART_EXTRA_BYTES = 64 * 1024


class BodyLimit:
    """Middleware that answers 413 to a body that is, or turns out to be, too large."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_upload_bytes

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
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
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
