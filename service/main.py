"""The application: `create_app` puts routes, middleware and the background chores together."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry

from jobs.database import migrate
from jobs.housekeeping import tidy
from jobs.reconcile import reconcile
from jobs.settings import Settings
from service import errors, openapi
from service.body_limit import BodyLimit
from service.local_only import LocalOnly
from service.metrics import RequestMetrics, StateCollector
from service.resources import Resources, open_resources
from service.routes import catalogue, files, jobs, probes, results
from service.routes.parameters import refuse_unknown

log = logging.getLogger(__name__)

# Request ids are repeated in headers and logs.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Nothing is opened before it starts.

    Args:
        settings: Where database, store and queue are, and how much is accepted.

    Raises:
        ValueError: Anybody on another machine could call the service without a key.
    """
    if settings.open_to_the_network:
        raise ValueError(
            f"ADTN_HOST={settings.host} can be reached from other machines, so ADTN_REQUIRE_KEYS must be true "
            "(make a key with `adtn keys create`)"
        )
    app = FastAPI(
        title="ADTN",
        summary="Compress trained PyTorch models with automatically differentiable tensor networks.",
        version=version("adtn"),
        lifespan=_lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.settings = settings
    app.state.registry = CollectorRegistry()
    errors.add_handlers(app)
    openapi.add_schemas(app)
    for routes in (files, jobs, results, catalogue):
        app.include_router(routes.router, dependencies=[Depends(refuse_unknown)])
    app.include_router(probes.router)
    app.add_middleware(
        BodyLimit,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        body_silence_s=settings.body_silence_s,
    )
    app.add_middleware(RequestMetrics, registry=app.state.registry)
    if not settings.require_keys:
        app.add_middleware(LocalOnly)
    # Added last, so outermost: every answer and log line has the id.
    app.add_middleware(CorrelationIdMiddleware, validator=lambda name: REQUEST_ID.fullmatch(name) is not None)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    await run_in_threadpool(migrate, settings.database_url)
    resources = open_resources(settings)
    app.state.resources = resources
    collector = StateCollector(resources.db)
    app.state.registry.register(collector)
    chores = [(settings.reconcile_s, _reconciler(resources)), (settings.tidy_s, _housekeeper(resources))]
    tasks = [asyncio.create_task(_repeat(seconds, chore)) for seconds, chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        app.state.registry.unregister(collector)
        resources.db.close()


def _reconciler(resources: Resources) -> Callable[[], object]:
    settings = resources.settings
    return partial(
        reconcile,
        resources.db,
        resources.queue,
        republish_s=settings.republish_s,
        max_attempts=settings.max_attempts,
    )


def _housekeeper(resources: Resources) -> Callable[[], object]:
    return partial(
        tidy,
        resources.db,
        resources.store,
        fits_kept_s=resources.settings.fits_kept_s,
        stopping=resources.stopping,
    )


async def _repeat(seconds: float, chore: Callable[[], object]) -> None:
    while True:
        try:
            await run_in_threadpool(chore)
        except Exception:
            # Whatever happened may be over at the next look, and without looks lost jobs would stay lost.
            log.exception("a chore in the background failed; it is tried again")
        await asyncio.sleep(seconds)
