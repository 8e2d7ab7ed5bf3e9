"""What searches, evaluations and data are expected to take."""

from datetime import UTC, datetime
from typing import Any

import pytest
import torch
from service_support import layer
from support.library_models import torchvision
from torch.utils.flop_counter import FlopCounterMode

from adtn.listing import layers_of_state
from jobs.files import FileRecord
from jobs.planning import MEASURED_SIZES, most_to_measure, plans_to_measure, to_measure
from jobs.schemas.jobs import Estimate
from jobs.schemas.settings import JobSettings
from service.estimates import HOPELESS, OPERATIONS_A_SECOND, START_SECONDS, _decode_seconds, estimate
from service.planning import layer_views, layers_in, plans_for

FILE_ID = f"file_{0:032}"
LAYERS = [layer("first", 1024, 256), layer("second", 1024, 1024), layer("last", 16, 1024)]


IMAGE = (3, 224, 224)


def a_checkpoint(layers: list[dict[str, Any]]) -> FileRecord:
    """A file of these layers alone, inspected."""
    numbers = sum(row["parameters"] for row in layers)
    size = sum(row["parameters"] * (2 if row["dtype"] == "float16" else 4) for row in layers)
    return FileRecord(
        **{"id": FILE_ID, "owner": "local", "filename": "m.safetensors", "purpose": "checkpoint", "status": "ready"},
        **{"bytes": size, "sha256": "0", "format": "safetensors", "error": None, "aliases": {}},
        **{"summary": {"parameters": numbers}, "layers": layers, "upload_key": "", "checked_key": ""},
        **{"created_at": datetime.now(UTC), "expires_at": None},
    )


def a_dataset(shape: tuple[int, ...], **splits: int) -> FileRecord:
    """Data of so many samples, inspected."""
    return FileRecord(
        **{"id": f"file_{1:032}", "owner": "local", "filename": "d.npz", "purpose": "dataset", "status": "ready"},
        **{"bytes": 0, "sha256": "0", "format": "npz", "error": None, "aliases": None, "layers": None},
        **{"summary": {"splits": splits, "shape": list(shape), "classes": 10}, "upload_key": "", "checked_key": ""},
        **{"created_at": datetime.now(UTC), "expires_at": None},
    )


@pytest.fixture(scope="module")
def checkpoint() -> FileRecord:
    """Three layers of which the largest model that is tried has encoded but one."""
    return a_checkpoint(LAYERS)


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
    memory = [estimate(searched, [plan], checkpoint, None).memory_bytes for plan in plans]
    assert found.memory_bytes == max(memory) > memory[-1]
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


@pytest.fixture(scope="module")
def resnet() -> tuple[FileRecord, float]:
    """A ResNet-50, and the seconds that one image takes by the operations of the network itself."""
    with torch.device("meta"):
        model = torchvision().models.resnet50(weights=None).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *IMAGE, device="meta"))
    layers = [layer(found.name, *found.shape, kind=found.kind) for found in layers_of_state(model.state_dict())]
    return a_checkpoint(layers), counter.get_total_flops() / OPERATIONS_A_SECOND


def of_resnet(checkpoint: FileRecord, dataset: FileRecord, **changes: Any) -> Estimate:
    """The estimate of a job that encodes the last layer of it."""
    compression = {"layers": ["fc"], **changes.pop("compression", {})}
    body = {"checkpoint": FILE_ID, "architecture": "torchvision/resnet50", "dataset": dataset.id}
    whole = JobSettings.model_validate({**body, "fine_tune": {"epochs": 0}, "compression": compression, **changes})
    return estimate(whole, plans_for(whole.compression, checkpoint), checkpoint, dataset)


def test_a_job_evaluates_the_test_split_for_each_model_and_each_artifact(resnet: tuple[FileRecord, float]) -> None:
    checkpoint, an_image = resnet
    few, many = (of_resnet(checkpoint, a_dataset(IMAGE, train=2000, test=count)) for count in (1, 10_000))
    # The original, the fitted and the compressed model; gates opened by two loaders, and dense weights.
    assert many.seconds - few.seconds == pytest.approx(6 * 10_000 * an_image, rel=0.15)
    assert few.seconds - START_SECONDS == pytest.approx(2066 * an_image, rel=0.15)  # moments and latency
    more = of_resnet(checkpoint, a_dataset(IMAGE, train=2000, test=10_000), exports=["adtn", "dense", "onnx", "pt2"])
    assert more.seconds - many.seconds == pytest.approx(2 * 10_000 * an_image, rel=0.15)


def test_a_search_without_time_to_evaluate_its_first_trial_is_hopeless(resnet: tuple[FileRecord, float]) -> None:
    checkpoint, an_image = resnet
    search = {"target": {"max_accuracy_drop": 1}}
    for splits, heldout in (
        ({"train": 2000}, 400),
        ({"train": 2000, "val": 10_000}, 10_000),
        ({"train": 90_000}, 10_000),
    ):
        found = of_resnet(checkpoint, a_dataset(IMAGE, test=100, **splits), compression=search)
        assert found.search is not None
        assert found.search.seconds_a_trial == pytest.approx(
            2 * heldout * an_image, rel=0.15
        )  # as fitted and as trained
        takes = (2000 + 3 * heldout) * an_image  # moments, the original, and a trial
        assert (HOPELESS in found.notes) is (takes > found.search.max_seconds)
    # Gates in few bits come of training: as fitted they are not looked at.
    rounded = of_resnet(checkpoint, a_dataset(IMAGE, test=100, train=2000), compression={**search, "gate_bits": 4})
    assert rounded.search is not None
    assert rounded.search.seconds_a_trial == pytest.approx(400 * an_image, rel=0.15)


def test_without_data_nothing_is_evaluated(resnet: tuple[FileRecord, float]) -> None:
    checkpoint, _ = resnet
    settings = JobSettings.model_validate({"checkpoint": FILE_ID, "compression": {"layers": ["fc"]}})
    assert estimate(settings, plans_for(settings.compression, checkpoint), checkpoint, None).seconds < 2 * START_SECONDS


def test_data_are_held_twice_at_the_end_and_three_times_while_they_are_normalised(
    resnet: tuple[FileRecord, float],
) -> None:
    checkpoint, _ = resnet
    split = 4 * 150_528  # bytes of an image

    def memory(count: int, **changes: Any) -> int:
        return of_resnet(checkpoint, a_dataset(IMAGE, train=8 * count, test=2 * count), **changes).memory_bytes

    assert memory(2000) - memory(1000) == 2 * 10_000 * split
    normalize = {"mean": [0.5], "std": [0.2]}
    assert memory(2000, normalize=normalize) - memory(1000, normalize=normalize) == (10_000 + 20_000 + 8000) * split


def test_a_search_copies_the_samples_that_it_trains_on_and_those_that_it_holds_out(
    resnet: tuple[FileRecord, float],
) -> None:
    checkpoint, _ = resnet
    tuned = {"fine_tune": {"epochs": 1, "dense": "freeze", "batch_size": 1024}}  # whose steps take more than the end

    def more(**splits: int) -> int:
        alone, searched = (
            of_resnet(checkpoint, a_dataset(IMAGE, test=10, **splits), compression=compression, **tuned).memory_bytes
            for compression in ({}, {"target": {"max_accuracy_drop": 1}})
        )
        return searched - alone

    train, val = 1000 * 4 * 150_528, 50 * 4 * 150_528
    assert more(train=3000) - more(train=2000) == train  # 800 and 200
    assert more(train=2000, val=50) - more(train=2000) == val


def test_half_precision_is_computed_in_single_precision_where_the_network_is_known_by_name() -> None:
    half = [row | {"dtype": "float16"} for row in LAYERS]
    for name, copies in (("lenet5", 0), (None, 4)):  # of the model, of what is compressed, and of what verifies it

        def memory(layers: list[dict[str, Any]], name: str | None = name) -> int:
            wish = {"checkpoint": FILE_ID, "architecture": name, "compression": {"layers": ["last"]}}
            whole, file = JobSettings.model_validate(wish), a_checkpoint(layers)
            return estimate(whole, plans_for(whole.compression, file), file, None).memory_bytes

        numbers = sum(row["parameters"] for row in LAYERS)
        assert memory(LAYERS) - memory(half) == (1 + copies) * 2 * numbers  # the file's own are halved in any case


def test_no_layer_is_predicted_to_take_fewer_numbers_than_a_job_by_default_stores() -> None:
    file = a_checkpoint([*LAYERS, layer("fc1", 120, 400), layer("conv", 16, 6, 5, 5, kind="conv2d")])
    predicted = {view.name: view.predicted_parameters for view in layer_views(file)}
    (plan,) = plans_for(JobSettings(checkpoint=FILE_ID).compression, file)
    planned = {entry.layer.name: entry.parameters for entry in plan.entries}
    assert planned.keys() == predicted.keys()
    assert all(numbers <= (predicted[name] or 0) for name, numbers in planned.items())
    assert planned["fc1"] < (predicted["fc1"] or 0)  # a bound, not the plan
