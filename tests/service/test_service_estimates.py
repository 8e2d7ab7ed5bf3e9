"""What a search is expected to take."""

from datetime import UTC, datetime
from typing import Any

import pytest
from service_support import layer

from jobs.files import FileRecord
from jobs.planning import MEASURED_SIZES, most_to_measure, plans_to_measure, to_measure
from jobs.schemas.jobs import Estimate
from jobs.schemas.settings import JobSettings
from service.estimates import START_SECONDS, _decode_seconds, estimate
from service.planning import layers_in, plans_for

FILE_ID = f"file_{0:032}"
LAYERS = [layer("first", 1024, 256), layer("second", 1024, 1024), layer("last", 16, 1024)]


@pytest.fixture(scope="module")
def checkpoint() -> FileRecord:
    """Three layers of which the largest model that is tried has encoded but one."""
    numbers = sum(row["parameters"] for row in LAYERS)
    return FileRecord(
        **{"id": FILE_ID, "owner": "local", "filename": "m.safetensors", "purpose": "checkpoint", "status": "ready"},
        **{"bytes": 4 * numbers, "sha256": "0", "format": "safetensors", "error": None, "aliases": {}},
        **{"summary": {"parameters": numbers}, "layers": LAYERS, "upload_key": "", "checked_key": ""},
        **{"created_at": datetime.now(UTC), "expires_at": None},
    )


def settings(max_trials: int = 1, **compression: Any) -> JobSettings:
    wish = {"checkpoint": FILE_ID, "architecture": "lenet5", "dataset": "digits", "fine_tune": {"epochs": 0}}
    caps, fit = {"max_trials": max_trials, "max_minutes": 600}, {"steps": 5000}
    return JobSettings.model_validate({**wish, "compression": compression, "search": caps, "fit": fit})


@pytest.fixture(scope="module")
def searched() -> JobSettings:
    return settings(2, target={"max_accuracy_drop": 1})


def test_time_is_that_of_the_first_size_and_memory_that_of_the_one_that_takes_most(
    checkpoint: FileRecord, searched: JobSettings
) -> None:
    plans = plans_for(searched.compression, checkpoint)
    alone = [estimate(settings(), [plan], checkpoint, None) for plan in plans]
    found = estimate(searched, plans, checkpoint, None)
    assert found.search is not None
    middle, largest = alone[len(plans) // 2], alone[-1]
    assert found.search.seconds_a_trial == pytest.approx(middle.seconds - START_SECONDS, abs=1)
    assert found.search.seconds_a_trial > 1.2 * (largest.seconds - START_SECONDS)
    assert found.memory_bytes == max(each.memory_bytes for each in alone) > largest.memory_bytes
    assert found.parameters == largest.parameters
    single = estimate(settings(1, target={"max_accuracy_drop": 1}), plans, checkpoint, None).search
    assert single is not None
    assert single.seconds_a_trial == pytest.approx(largest.seconds - START_SECONDS, abs=1)


def test_measuring_is_of_every_layer_that_may_be_encoded(checkpoint: FileRecord, searched: JobSettings) -> None:
    """Each is fitted in a few sizes, whatever the plan."""

    def seconds(**fit: Any) -> float:
        whole = searched.model_copy(update={"fit": searched.fit.model_copy(update=fit)})
        found: Estimate = estimate(whole, plans_for(whole.compression, checkpoint), checkpoint, None)
        assert found.search is not None
        return found.seconds - 3 * found.search.seconds_a_trial

    measured = to_measure(searched.compression, layers_in(checkpoint))
    assert measured is not None
    together = plans_to_measure(measured, most_to_measure(searched.compression, measured))
    names = [entry.layer.name for plan in together for entry in plan.entries]
    assert {name: names.count(name) for name in names} == dict.fromkeys(("first", "second", "last"), MEASURED_SIZES)
    # Fits of no step leave the network's looks at each; 50 steps are what such a fit has at most.
    none, some, many = (seconds(steps=steps) for steps in (0, 50, 200))
    fits = {entry: 50 * _decode_seconds(entry) for plan in together for entry in plan.entries}
    assert some - none == pytest.approx(sum(fits.values()), abs=1)
    assert some == pytest.approx(many, abs=1)
    (encoded,) = plans_for(searched.compression, checkpoint)[-1].entries
    assert sum(seconds for entry, seconds in fits.items() if entry.layer != encoded.layer) > 1.5
