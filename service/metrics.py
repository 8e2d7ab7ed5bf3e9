"""Prometheus metrics: requests as they are answered, jobs and queues as the database has them."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.database import Database, now
from jobs.states import FILE_STATUSES, JOB_STATUSES
from jobs.tables import FileRow, JobRow

METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
"""A series each; any other token is a method too, and whoever makes some up would make a series of each."""


class StateCollector(Collector):
    """Counts of jobs and files by status, and the age of the oldest queued job."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the names are not asked of the database when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the database."""
        with self._db.read() as session:
            jobs = dict(session.execute(select(JobRow.status, func.count()).group_by(JobRow.status)).all())
            files = dict(session.execute(select(FileRow.status, func.count()).group_by(FileRow.status)).all())
            oldest = session.scalars(select(func.min(JobRow.queued_at)).where(JobRow.status == "queued")).one()
            age = 0.0 if oldest is None else (now(session) - oldest).total_seconds()
        by_status = GaugeMetricFamily("adtn_jobs", "Jobs by status.", labels=["status"])
        for job_status in JOB_STATUSES:
            by_status.add_metric([job_status], jobs.get(job_status, 0))
        yield by_status
        inspected = GaugeMetricFamily("adtn_files", "Files by status.", labels=["status"])
        for file_status in FILE_STATUSES:
            inspected.add_metric([file_status], files.get(file_status, 0))
        yield inspected
        yield GaugeMetricFamily("adtn_queue_depth", "Jobs that wait for a worker.", value=jobs.get("queued", 0))
        yield GaugeMetricFamily("adtn_queue_oldest_seconds", "Age of the job that waits longest.", value=age)


class RequestMetrics:
    """Middleware that measures requests up to the start of their answer, by route and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self.seconds = Histogram(
            "adtn_http_request_seconds",
            "Seconds to the start of the answer.",
            ["method", "route", "status"],
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                # Never the path itself: it holds ids, and whoever guesses paths would make a series of each.
                path = route.path if isinstance(route, Route) else "none"
                elapsed = time.perf_counter() - started
                method = scope["method"] if scope["method"] in METHODS else "other"
                self.seconds.labels(method, path, str(message["status"])).observe(elapsed)
            await send(message)

        await self.app(scope, receive, timed)
