"""Shapes of samples as models of libraries take them."""

from jobs.problems import ProblemError
from worker.libraries.importing import first_line


def as_images(name: str, given: tuple[int, ...] | None, usual: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of an image with its channels in front.

    Args:
        name: Of the model, for messages.
        given: Of one sample, (channels, height, width), or (height, width) for one channel; None if there are no data.
        usual: What is taken then.

    Raises:
        ProblemError: `dataset_mismatch`.
    """
    if given is None:
        return usual
    shape = (1, *given) if len(given) == 2 else tuple(given)
    if len(shape) != 3:
        raise ProblemError(
            "dataset_mismatch", f"{name} expects samples of shape (channels, height, width), got {tuple(given)}"
        )
    return (shape[0], shape[1], shape[2])


def size_refused(name: str, shape: tuple[int, ...], error: Exception) -> ProblemError:
    """The problem of a model that cannot be built for images of a size."""
    return ProblemError("dataset_mismatch", f"{name} cannot be built for samples of shape {shape}: {first_line(error)}")


def as_tokens(name: str, given: tuple[int, ...] | None, most: int | None, usual: int) -> tuple[int]:
    """The shape of a sequence of tokens.

    Args:
        name: Of the model, for messages.
        given: Of one sample, (tokens,); None if there are no data.
        most: Tokens that the model has positions for; None if that is not limited.
        usual: How many are taken without data, at most.

    Raises:
        ProblemError: `dataset_mismatch`.
    """
    if given is None:
        return (usual if most is None else min(usual, most),)
    if len(given) != 1 or (most is not None and given[0] > most):
        limit = "" if most is None else f" with at most {most} tokens"
        raise ProblemError("dataset_mismatch", f"{name} expects samples of shape (tokens,){limit}, got {tuple(given)}")
    return (given[0],)
