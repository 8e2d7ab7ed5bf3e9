"""`/v1/architectures` and `/v1/datasets`: what is known by name."""

from dataclasses import asdict

from fastapi import APIRouter

from jobs.catalogue import ARCHITECTURES, DATASETS
from jobs.schemas.catalogue import ArchitectureView, DatasetView
from jobs.schemas.common import Page
from service.auth import OwnerDep
from service.errors import responses

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get("/architectures", responses=responses())
def list_architectures(owner: OwnerDep) -> Page[ArchitectureView]:
    """List the architectures that a checkpoint can be loaded into."""
    return Page(data=[ArchitectureView.model_validate(asdict(known)) for known in ARCHITECTURES.values()])


@router.get("/datasets", responses=responses())
def list_datasets(owner: OwnerDep) -> Page[DatasetView]:
    """List the data sets that can be used by name."""
    return Page(data=[DatasetView.model_validate(asdict(known)) for known in DATASETS.values()])
