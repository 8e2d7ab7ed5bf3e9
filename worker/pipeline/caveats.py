"""What a reader of the report should be warned of."""

from collections.abc import Mapping, Sequence

from jobs.catalogue import PROGRAMS
from jobs.schemas.settings import CompressionSettings
from worker.architectures.architecture import AMBIGUOUS, Architecture
from worker.confidence import Change, noise_of_difference
from worker.pipeline.evaluate import Accuracies
from worker.pipeline.export import Artifact
from worker.pipeline.sensitivity import Sensitivity

Caveat = dict[str, str]
ENCODED = ("adtn", *PROGRAMS)
"""Exports that hold gates in place of the encoded weights."""


def caveats(
    accuracies: Accuracies | None,
    artifacts: Sequence[Artifact],
    dense_bytes: int,
    settings: CompressionSettings,
    search: Mapping[str, object] | None,
) -> list[Caveat]:
    """The report's `warnings`, each a stable code and a sentence.

    Args:
        accuracies: What the test split says, or None without data.
        artifacts: The files that hold the model.
        dense_bytes: Of the original's tensors, tied ones once.
        settings: What was asked for.
        search: The report's section of that name, or None where no search ran.
    """
    found = [_not_smaller(artifacts, dense_bytes)]
    if accuracies is not None:
        found += [_within_noise(accuracies.change), _at_chance(accuracies), _beyond_promise(accuracies, settings)]
        found += [_original_at_chance(accuracies), _teacher_worse(accuracies), _tuning_worse(accuracies, settings)]
    if search is not None:
        found += [_too_few_held_out(search), _one_class_held_out(search), _capped(search), _training_harms(search)]
    if accuracies is not None and search is not None:
        found.append(_seen_by_original(accuracies, search))
    return [caveat for caveat in found if caveat is not None]


def _not_smaller(artifacts: Sequence[Artifact], dense_bytes: int) -> Caveat | None:
    """Of the files in which encoded weights stay encoded; where none was asked for, of the dense ones."""
    encoded = [artifact for artifact in artifacts if artifact.kind in ENCODED]
    large = [artifact for artifact in encoded or artifacts if artifact.bytes >= dense_bytes]
    if not large:
        return None
    sizes = " and ".join(f"{artifact.name} has {artifact.bytes:,} bytes" for artifact in large)
    advice = "" if encoded else "; the export 'adtn' stores gates in place of the weights"
    return _caveat("not_smaller", f"{sizes}, the original's tensors have {dense_bytes:,}{advice}")


def _within_noise(change: Change) -> Caveat | None:
    if not change.is_noise:
        return None
    low, high = (100 * end for end in change.interval)
    return _caveat(
        "drop_within_noise",
        f"the accuracy changed by {100 * change.share:+.2f} points on {change.samples:,} test samples, with "
        f"{change.lost:,} of them lost and {change.won:,} won: on other samples it might change by {low:+.2f} to "
        f"{high:+.2f} points, so this cannot be told from chance",
    )


def _at_chance(accuracies: Accuracies) -> Caveat | None:
    original = max(accuracies.baseline, accuracies.teacher or 0.0)
    if accuracies.final > accuracies.commonest or original <= accuracies.commonest:
        return None
    return _caveat(
        "at_chance",
        f"the compressed model is no better than a constant answer: it is right on {accuracies.final:.2%} of the test "
        f"samples, and {accuracies.commonest:.2%} of them are of one class; its training may have collapsed, or its "
        "numbers may be too few: use a smaller learning rate of the fine-tuning, or more numbers",
    )


def _original_at_chance(accuracies: Accuracies) -> Caveat | None:
    if accuracies.baseline > accuracies.commonest:
        return None
    return _caveat(
        "original_at_chance",
        f"the original is no better than a constant answer: it is right on {accuracies.baseline:.2%} of the test "
        f"samples, and {accuracies.commonest:.2%} of them are of one class; see to it that the data are what it was "
        "trained on, with the same order of classes, normalisation and size",
    )


def _tuning_worse(accuracies: Accuracies, settings: CompressionSettings) -> Caveat | None:
    # Gates in few bits come of the training: as they are fitted they are not rounded yet.
    if settings.gate_bits is not None or not accuracies.tuning.is_fall:
        return None
    return _caveat(
        "tuning_worse",
        f"the fine-tuning has made the compressed model worse: it is right on {accuracies.final:.2%} of the test "
        f"samples, and was on {accuracies.after_fit:.2%} as it was fitted; use a smaller learning rate of the "
        "fine-tuning, or no epochs",
    )


def _teacher_worse(accuracies: Accuracies) -> Caveat | None:
    if accuracies.correction is None or not accuracies.correction.is_fall:
        return None
    assert accuracies.teacher is not None
    return _caveat(
        "teacher_worse",
        f"teacher_epochs have made the original worse, before it was compressed and imitated: it is right on "
        f"{accuracies.teacher:.2%} of the test samples, and was on {accuracies.baseline:.2%}; use a smaller learning "
        "rate of the fine-tuning, or no teacher_epochs",
    )


def _beyond_promise(accuracies: Accuracies, settings: CompressionSettings) -> Caveat | None:
    promised = settings.target.max_accuracy_drop if settings.target is not None else None
    drop = 100 * (accuracies.baseline - accuracies.final)
    if promised is None or drop <= promised + 1e-9:
        return None
    return _caveat(
        "drop_beyond_target",
        f"on the {accuracies.samples:,} test samples, which took no part in the search, the drop is {drop:.2f} points; "
        f"asked for were at most {promised:g}, which the trial kept on held-out samples",
    )


def _too_few_held_out(search: Mapping[str, object]) -> Caveat | None:
    (baseline, samples), drop = _original_held_out(search), search["max_accuracy_drop"]
    assert isinstance(drop, float)
    # Which samples a model of another size would lose and win is not known: this takes them as unpaired.
    noise = 100 * noise_of_difference(baseline, max(0.0, baseline - drop / 100), (samples, samples))
    if drop > noise:
        return None
    return _caveat(
        "heldout_small",
        f"{samples:,} held-out samples cannot tell a drop of {drop:g} points from chance (below {noise:.2f}); with "
        "other samples the search might have chosen another size",
    )


def _capped(search: Mapping[str, object]) -> Caveat | None:
    caps = {"trials": "search.max_trials", "minutes": "search.max_minutes"}
    cap, untried = caps.get(str(search["ended_by"])), search["smaller_untried"]
    if cap is None or not untried:
        return None
    return _caveat(
        "search_capped",
        f"the search was ended by {cap}: {untried} smaller sizes that might keep the accuracy too were not tried; with "
        "a higher cap the model may get smaller",
    )


def _training_harms(search: Mapping[str, object]) -> Caveat | None:
    if not search["control_harmed"]:
        return None
    return _caveat(
        "training_harms",
        "the fine-tuning as it was set makes the original itself worse, so that it only harms the trials too; use a "
        "smaller learning rate",
    )


def _one_class_held_out(search: Mapping[str, object]) -> Caveat | None:
    original, _ = _original_held_out(search)
    drop, commonest = search["max_accuracy_drop"], search["commonest_heldout_share"]
    assert isinstance(drop, float)
    assert isinstance(commonest, float)
    if commonest < original - drop / 100:
        return None
    return _caveat(
        "heldout_commonest",
        f"{commonest:.2%} of the held-out samples are of one class, so a model that always answers it would keep the "
        "accuracy asked for; the search says nothing of the others: use data with more samples of each class, or a "
        "smaller drop",
    )


def _seen_by_original(accuracies: Accuracies, search: Mapping[str, object]) -> Caveat | None:
    heldout, samples = _original_held_out(search)
    noise = noise_of_difference(heldout, accuracies.baseline, (samples, accuracies.samples))
    if heldout - accuracies.baseline <= noise:
        return None
    return _caveat(
        "heldout_seen",
        "the original does as well on the held-out samples as if it had been trained on them: it is right on "
        f"{heldout:.2%} of them, and on {accuracies.baseline:.2%} of the test samples, so a drop on them says little "
        "about new data; a larger model may have been chosen than is needed, where there is a smaller one, and at a "
        "smaller max_accuracy_drop the search may fail for want of one; a validation split that the original was not "
        "trained on (val_x and val_y, or a folder val) judges it fairly",
    )


def _original_held_out(search: Mapping[str, object]) -> tuple[float, int]:
    """The original's accuracy on the held-out samples, with which trials are compared, and their number."""
    control, samples = search.get("control_heldout_accuracy"), search["heldout_samples"]
    accuracy = search["baseline_heldout_accuracy"] if control is None else control
    assert isinstance(accuracy, float)
    assert isinstance(samples, int)
    return accuracy, samples


def caveats_of_network(architecture: Architecture | None, *, computed: bool) -> list[Caveat]:
    """What is to be said of a network as it was built.

    Args:
        architecture: The network, or None.
        computed: Whether anything is computed by it: else it does not matter which of several forms was taken.
    """
    found = architecture.caveats if architecture else ()
    return [caveat for caveat in found if computed or caveat["code"] != AMBIGUOUS]


def caveats_of_measuring(sensitivity: Sensitivity) -> list[Caveat]:
    """What is to be said where there was no time to measure layers at every size that was meant to be."""
    if sensitivity.count == sensitivity.wanted:
        return []
    if not sensitivity.curves:
        detail = "there was no time to measure every layer once, so the numbers were shared out evenly"
    else:
        detail = (
            f"there was time for {sensitivity.count} of the {sensitivity.wanted} fits by which layers are measured, "
            "those of the smallest sizes"
        )
    return [_caveat("not_measured", f"{detail}; measuring may take half of search.max_minutes: raise it")]


def tuning_undone(before: int, change: Change, split: str) -> Caveat:
    """What is to be said where the fine-tuning did harm, and the model was left as it was fitted.

    Args:
        before: How many samples the fitted model answers rightly.
        change: What the fine-tuning made of that.
        split: Where the samples are from, in words.
    """
    after = before - change.lost + change.won
    return _caveat(
        "tuning_undone",
        f"the fine-tuning made the compressed model worse: it was right on {before:,} of {change.samples:,} {split} "
        f"samples as it was fitted, and on {after:,} after that; so it is left as it was fitted: use a smaller "
        "learning rate of the fine-tuning, or no epochs",
    )


def trained_as_tried(reason: str) -> Caveat:
    """What is to be said where the chosen size could only be trained as its trial was.

    Args:
        reason: What became of the other training.
    """
    return _caveat(
        "trained_as_tried",
        f"the training on all samples came to nothing ({reason}): the model is that of its trial, which was trained "
        "without the held-out samples",
    )


def _caveat(code: str, detail: str) -> Caveat:
    return {"code": code, "detail": detail}
