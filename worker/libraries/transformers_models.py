"""Classifiers of transformers by the names of their classes: "transformers/DistilBertForSequenceClassification"."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor, nn

from jobs.problems import ProblemError
from worker.architectures.architecture import Architecture
from worker.libraries.config import made, settings_of, unbuildable
from worker.libraries.importing import first_line, imported, unknown
from worker.libraries.loading import classes_of, loaded
from worker.libraries.samples import as_images, as_tokens
from worker.libraries.scores import answer_with_scores

TOLD = {"num_labels": (7, 11)}
"""Settings that shapes tell, and values that are tried to find those shapes."""
ATTENTION = "eager"
"""Ordinary operators: repeatable, and every exporter knows them."""
TOKENS = 128
"""Of a sample, where there are no data to tell."""
SIDE = 224
"""Of images, where neither data nor the config tell it."""
EXACT = 2**24
"""Tokens, where a model has no table of them: beyond, float32 no longer has every whole number."""
BEYOND_CONFIG = {"TimmWrapperForImageClassification"}
"""Classes whose config names a model of another library."""


def build(
    model: str, state: Mapping[str, Tensor], input_shape: tuple[int, ...] | None, config: Mapping[str, Any]
) -> Architecture:
    """Build a model of transformers by its config, and load it.

    Args:
        model: The name of a class for sequence classification or for image classification.
        state: The whole state dict.
        input_shape: Of one sample; None if there are no data.
        config: Fields of the model's config that differ from the defaults of its class.

    Raises:
        ProblemError: See `worker.libraries.build`.
    """
    name = f"transformers/{model}"
    transformers = imported("transformers")
    from transformers.initialization import no_init_weights

    texts, images = _classes()
    if model not in texts | images:
        raise unknown(name, texts | images)
    network_class = _class(name, transformers, model)
    settings, notes = settings_of(name, network_class.config_class, config)

    def make(**sizes: int) -> nn.Module:
        whole = made(name, network_class.config_class, {**settings, **sizes})
        whole._attn_implementation = ATTENTION
        whole.use_cache = False
        with no_init_weights():  # they are loaded
            network = network_class(whole)
        network.tie_weights()  # which `no_init_weights` leaves out as well
        return cast(nn.Module, network)

    # The config is a stranger's: of a blank model nothing has numbers yet.
    meta = torch.device("meta")
    network, sizes, converted = loaded(name, make, state, TOLD, partial(unbuildable, name), meta)
    take = _as_text if model in texts else _as_image
    shape, numbers, fill = take(name, network, input_shape)
    details = {
        "library": "transformers",
        "version": version("transformers"),
        "classes": classes_of(name, network, shape, fill),
        "input": list(shape),
        "config": {**settings, **sizes},
        "notes": [*notes, *converted],
    }
    return Architecture(name, network, shape, details, numbers)


def _classes() -> tuple[set[str], set[str]]:
    """The names of the classes that tell sequences, and images, apart."""
    from transformers.models.auto import modeling_auto as auto

    def names(registry: Mapping[str, str | tuple[str, ...]]) -> set[str]:
        listed = (found if isinstance(found, tuple) else (found,) for found in registry.values())
        return {name for names in listed for name in names} - BEYOND_CONFIG

    texts = names(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    return texts, names(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def _class(name: str, transformers: Any, model: str) -> Any:
    """A class, whose module is imported only now."""
    try:
        return getattr(transformers, model)
    except Exception as error:  # a module may need other packages
        raise ProblemError("architecture_unavailable", f"{name} cannot be imported: {first_line(error)}") from error


def _as_text(
    name: str, network: nn.Module, given: tuple[int, ...] | None
) -> tuple[tuple[int, ...], range | None, float]:
    """Let a network take tokens: the shape of a sample, the tokens that there are, and one to try it with."""
    config: Any = network.config
    config = config.get_text_config()
    vocabulary = range(getattr(config, "vocab_size", EXACT))
    shape = as_tokens(name, given, getattr(config, "max_position_embeddings", None), TOKENS)
    answer_with_scores(network, partial(_of_tokens, pad=getattr(config, "pad_token_id", None)))
    # Some models look for the token that ends a sequence. Without data they are run on the token 0 later on.
    ends = getattr(config, "eos_token_id", None)
    end = ends[0] if isinstance(ends, list) and ends else ends
    fill = float(end) if given is not None and isinstance(end, int) and end in vocabulary else 0.0
    return shape, vocabulary, fill


def _of_tokens(forward: Callable[..., object], samples: Tensor, pad: int | None) -> object:
    """Call a model with tokens; those that pad a sequence are masked, unless there are no others."""
    tokens = samples.long()  # (batch, tokens)
    if pad is None:
        return forward(input_ids=tokens)
    given = tokens != pad
    return forward(input_ids=tokens, attention_mask=(given | ~given.any(1, keepdim=True)).long())


def _as_image(
    name: str, network: nn.Module, given: tuple[int, ...] | None
) -> tuple[tuple[int, ...], range | None, float]:
    """Let a network take images: the shape of a sample, no limits of its numbers, and one to try it with."""
    config: Any = network.config
    side = getattr(config, "image_size", None) or SIDE
    height, width = side if isinstance(side, list | tuple) else (side, side)
    answer_with_scores(network)
    return as_images(name, given, (getattr(config, "num_channels", 3), height, width)), None, 0.0
