"""`/v1/files`: uploads."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from jobs import files
from jobs.problems import Fault, ProblemError
from jobs.publishing import try_publish_file
from jobs.schemas.common import Page
from jobs.schemas.files import File, FileLayer
from jobs.states import PURPOSES, Purpose
from service import digests
from service.auth import OwnerDep
from service.downloads import Download, respond
from service.errors import invalid, responses
from service.multipart import parts, text
from service.names import safe_filename
from service.planning import layer_views, require_ready
from service.resources import Resources, ResourcesDep
from service.routes.parameters import After, Limit
from service.uploads import Upload, add, discard, receive
from service.views import file_view

router = APIRouter(prefix="/v1/files", tags=["files"])

MAX_FIELD_BYTES = 1024
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "sha256": {"type": "string"},
                    },
                }
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=File,
    responses=responses("malformed_request", "too_large", "empty_file", "unsupported_format", "storage_full"),
    openapi_extra=BODY,
)
async def upload_file(
    request: Request,
    resources: ResourcesDep,
    owner: OwnerDep,
    purpose: Annotated[Purpose | None, Query(description="Needed unless the form has it.")] = None,
    filename: Annotated[str | None, Query(max_length=1000)] = None,
    sha256: Annotated[str | None, Query(description="Of the file; compared with what arrives.")] = None,
    repr_digest: Annotated[str | None, Header(description="RFC 9530; sha-256 is compared.")] = None,
) -> Response:
    """Upload a file: the body is its bytes, or a multipart form with `file` and `purpose`."""
    fields: dict[str, str | None] = {"purpose": purpose, "filename": filename, "sha256": sha256}
    multipart = request.headers.get("content-type", "").startswith("multipart/form-data")
    if multipart:
        upload = await _from_form(request, resources, fields)
    else:
        _purpose(fields)
        digests.expected_sha256(repr_digest, sha256)
        upload = await receive(resources, _nonempty(request.stream()))
    try:
        known = _purpose(fields)
        # The header of a form is about the form, not about the file in it.
        digests.check(digests.expected_sha256(None if multipart else repr_digest, fields["sha256"]), upload.sha256)
        record = await run_in_threadpool(_add, resources, owner, upload, known, safe_filename(fields["filename"]))
    except BaseException:
        await discard(resources, [upload])
        raise
    await run_in_threadpool(try_publish_file, resources.db, resources.queue, record.id)
    view = file_view(record).model_dump(mode="json")
    return JSONResponse(view, status_code=201, headers={"Location": f"/v1/files/{record.id}"})


@router.get("", responses=responses())
def list_files(resources: ResourcesDep, owner: OwnerDep, limit: Limit = 20, after: After = None) -> Page[File]:
    """List files, newest first."""
    found, more = files.list_page(resources.db, owner, limit, after)
    return Page(data=[file_view(file) for file in found], has_more=more)


@router.get("/{file_id}", responses=responses("not_found"))
def get_file(file_id: str, resources: ResourcesDep, owner: OwnerDep) -> File:
    """Get a file."""
    return file_view(files.get_info(resources.db, owner, file_id))


@router.head("/{file_id}/content", include_in_schema=False)
@router.get("/{file_id}/content", response_class=Response, responses=responses("not_found", "range_not_satisfiable"))
async def get_content(file_id: str, request: Request, resources: ResourcesDep, owner: OwnerDep) -> Response:
    """Download the bytes as they were uploaded."""
    file = await run_in_threadpool(files.get_info, resources.db, owner, file_id)
    download = Download(file.upload_key, file.filename, file.bytes, file.sha256)
    return await respond(request, resources.store, download)


@router.get("/{file_id}/layers", responses=responses("not_found", "file_not_ready", "file_rejected", "wrong_purpose"))
def get_layers(file_id: str, resources: ResourcesDep, owner: OwnerDep) -> Page[FileLayer]:
    """List the layers of a checkpoint that was inspected."""
    record = files.get(resources.db, owner, file_id)
    if record.purpose != "checkpoint":
        raise ProblemError("wrong_purpose", f"{file_id} was uploaded as a {record.purpose}, expected a checkpoint")
    require_ready(record)
    return Page(data=layer_views(record))


@router.delete("/{file_id}", status_code=204, responses=responses("not_found", "file_in_use"))
def delete_file(file_id: str, resources: ResourcesDep, owner: OwnerDep) -> None:
    """Delete a file that no unfinished job uses."""
    files.delete(resources.db, resources.store, owner, file_id)


async def _from_form(request: Request, resources: Resources, fields: dict[str, str | None]) -> Upload:
    """Store the `file` of a form; the other parts are put into `fields`."""
    upload = None
    try:
        async for part in parts(request.headers["content-type"], request.stream()):
            if part.name == "file" and upload is None:
                upload = await receive(resources, part.chunks)
                fields["filename"] = fields["filename"] or part.filename
            elif part.name in fields:
                fields[part.name] = await text(part, MAX_FIELD_BYTES)
            else:
                raise invalid([Fault(f"/{part.name}", "the form has no such field", "extra_forbidden")])
    except BaseException:
        if upload is not None:
            await discard(resources, [upload])
        raise
    if upload is None:
        raise invalid([Fault("/file", "Field required", "missing")])
    return upload


def _purpose(fields: dict[str, str | None]) -> Purpose:
    for purpose in PURPOSES:
        if fields["purpose"] == purpose:
            return purpose
    kind = "missing" if fields["purpose"] is None else "literal_error"
    raise invalid([Fault("/purpose", f"expected {' or '.join(PURPOSES)}", kind)])


async def _nonempty(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream without the empty chunk at its end."""
    async for chunk in stream:
        if chunk:
            yield chunk


def _add(resources: Resources, owner: str, upload: Upload, purpose: Purpose, filename: str) -> files.FileRecord:
    with resources.db.begin() as session:
        return add(session, upload, owner=owner, filename=filename, purpose=purpose)
