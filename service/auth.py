"""Who calls: the owner of the API key, or `local` where none is needed."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from jobs import keys
from jobs.problems import ProblemError
from service.resources import ResourcesDep

LOCAL_OWNER = "local"

_bearer = HTTPBearer(auto_error=False, description="An API key, made with `adtn keys create`.")


def _owner(
    resources: ResourcesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    if credentials is None:
        if resources.settings.require_keys:
            raise ProblemError("unauthorized", "expected the header `Authorization: Bearer <key>`")
        return LOCAL_OWNER
    owner = keys.owner_of(resources.db, credentials.credentials)
    if owner is None:
        raise ProblemError("unauthorized", "the key is not known or was revoked")
    return owner


OwnerDep = Annotated[str, Depends(_owner)]
