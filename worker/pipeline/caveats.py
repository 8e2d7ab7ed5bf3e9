"""What a reader of the report should be warned of."""

from collections.abc import Mapping, Sequence

from jobs.schemas.settings import CompressionSettings
from worker.architectures.architecture import AMBIGUOUS, Architecture
from worker.confidence import noise_of_difference
from worker.pipeline.export import Artifact

Caveat = dict[str, str]


def caveats(
    accuracies: tuple[float, float] | None,
    samples: int,
    artifacts: Sequence[Artifact],
    checkpoint_bytes: int,
    settings: CompressionSettings,
    search: Mapping[str, object] | None,
) -> list[Caveat]:
    """The report's `warnings`, each a stable code and a sentence.

    Args:
        accuracies: Of the original and of the compressed model on the test split, or None without data.
        samples: Of that split.
        artifacts: The files that hold the model.
        checkpoint_bytes: The checkpoint's size.
        settings: What was asked for.
        search: The report's section of that name.
    """
    found = [_not_smaller(artifacts, checkpoint_bytes)]
    if accuracies is not None:
        found.append(_within_noise(*accuracies, samples))
        found.append(_beyond_promise(*accuracies, samples, settings))
    if search is not None:
        found.append(_too_few_held_out(search))
    return [caveat for caveat in found if caveat is not None]


def _not_smaller(artifacts: Sequence[Artifact], checkpoint_bytes: int) -> Caveat | None:
    sizes = {artifact.kind: artifact.bytes for artifact in artifacts}
    dense = sizes.get("dense", checkpoint_bytes)
    if "adtn" not in sizes or sizes["adtn"] < dense:
        return None
    return _caveat("adtn_not_smaller", f"the adtn artifact has {sizes['adtn']:,} bytes, the dense one {dense:,}")


def _within_noise(baseline: float, final: float, samples: int) -> Caveat | None:
    noise, change = noise_of_difference(baseline, final, samples), final - baseline
    if abs(change) > noise:
        return None
    return _caveat(
        "drop_within_noise",
        f"the accuracy changed by {100 * change:+.2f} points on {samples:,} test samples, which cannot tell changes "
        f"below {100 * noise:.2f} points from chance",
    )


def _beyond_promise(baseline: float, final: float, samples: int, settings: CompressionSettings) -> Caveat | None:
    promised = settings.target.max_accuracy_drop if settings.target is not None else None
    drop = 100 * (baseline - final)
    if promised is None or drop <= promised + 1e-9:
        return None
    return _caveat(
        "drop_beyond_target",
        f"on the {samples:,} test samples, which took no part in the search, the drop is {drop:.2f} points; asked for "
        f"were at most {promised:g}, which the trial kept on held-out training samples",
    )


def _too_few_held_out(search: Mapping[str, object]) -> Caveat | None:
    samples, baseline, drop = (
        search[name] for name in ("heldout_samples", "baseline_heldout_accuracy", "max_accuracy_drop")
    )
    assert isinstance(samples, int)
    assert isinstance(baseline, float)
    assert isinstance(drop, float)
    noise = 100 * noise_of_difference(baseline, max(0.0, baseline - drop / 100), samples)
    if drop > noise:
        return None
    return _caveat(
        "heldout_small",
        f"{samples:,} held-out samples cannot tell a drop of {drop:g} points from chance (below {noise:.2f}); with "
        "other samples the search might have chosen another size",
    )


def caveats_of_network(architecture: Architecture | None, *, computed: bool) -> list[Caveat]:
    """What is to be said of a network as it was built.

    Args:
        architecture: The network, or None.
        computed: Whether anything is computed by it: else it does not matter which of several forms was taken.
    """
    found = architecture.caveats if architecture else ()
    return [caveat for caveat in found if computed or caveat["code"] != AMBIGUOUS]


def _caveat(code: str, detail: str) -> Caveat:
    return {"code": code, "detail": detail}
