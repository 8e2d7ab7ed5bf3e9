"""A stranger's config.json as the settings of a class of transformers: only what shapes a model gets through."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from jobs.problems import Fault, ProblemError
from worker.libraries.importing import first_line

LEFT_OUT = {
    "auto_map": "no code but the installed package's is run",
    "custom_pipelines": "no code but the installed package's is run",
    "attn_implementation": "attention is computed by torch's ordinary operators",
    "_attn_implementation": "attention is computed by torch's ordinary operators",
    "dtype": "computed in float32",
    "torch_dtype": "computed in float32",
    "num_labels": "the checkpoint tells the number of classes",
    "id2label": "the checkpoint tells the number of classes",
    "label2id": "the checkpoint tells the number of classes",
}
"""Fields that are left out, and why."""
BOOKKEEPING = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "finetuning_task",
        "model_type",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "transformers_version",
        "use_cache",
    }
)
"""Fields that are left out without a word: they do not change what a model computes."""
REFUSED = {
    "quantization_config": "quantised weights are not supported: save the model dequantised",
    "trust_remote_code": "code that does not come with the installed package is never run",
}
SPECIAL_TOKENS = frozenset({"bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"})
"""Fields that models read though not every class declares them."""
ROTARY = ("rope_theta", "rope_scaling", "partial_rotary_factor")
"""What older versions wrote for `rope_parameters`."""
MAX_INTEGERS = 10**7
"""Sum of the integers of a field; a base of rotary positions may be as large."""


def settings_of(name: str, config_class: Any, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields that a class takes of a config.json.

    Args:
        name: Of the model, for messages.
        config_class: Of transformers.
        given: What the file holds; plain JSON.

    Returns:
        Settings, and notes on what was left out.

    Raises:
        ProblemError: `architecture_config_invalid` with a fault a field.
    """
    model_type = given.get("model_type", config_class.model_type)
    if model_type != config_class.model_type:
        raise invalid(name, [("model_type", f"expected {config_class.model_type!r}, got {str(model_type)[:80]!r}")])
    known = {field.name for field in fields(config_class)} | set(config_class.attribute_map) | SPECIAL_TOKENS
    if "rope_parameters" in known:
        known.update(ROTARY)
    settings, faults, without = {}, [], []
    for key, value in given.items():
        if key in LEFT_OUT or key in BOOKKEEPING:
            continue
        fault = _fault(key, value, known, config_class)
        if fault is not None:
            faults.append((key, fault))
        elif key in known:
            settings[key] = value
        else:
            without.append(key)
    if faults:
        raise invalid(name, faults)
    notes = [f"config: {key} is left out: {why}" for key, why in LEFT_OUT.items() if key in given]
    if without:
        notes.append(
            f"config: left out, for {config_class.__name__} has no such fields: {', '.join(sorted(without))[:500]}"
        )
    return settings, notes


def made(name: str, config_class: Any, settings: Mapping[str, Any]) -> Any:
    """A config of a class.

    Raises:
        ProblemError: `architecture_config_invalid`: it does not take the settings.
    """
    try:
        return config_class(**settings)
    except Exception as error:  # a config checks its fields in any way
        message = " ".join(str(error).split())[:300]
        raise invalid(name, [("", f"{type(error).__name__}: {message}")]) from error


def unbuildable(name: str, error: Exception) -> ProblemError:
    """The problem of a config that no model can be built from."""
    return invalid(name, [("", first_line(error))])


def invalid(name: str, faults: list[tuple[str, str]]) -> ProblemError:
    """The problem of a config, from the keys of its faults and what is wrong with each."""
    listed = [
        Fault(f"/architecture_config/{key}".rstrip("/"), detail, "architecture_config_invalid")
        for key, detail in faults
    ]
    shown = "; ".join(f"{key}: {detail}" if key else detail for key, detail in faults[:5])
    return ProblemError("architecture_config_invalid", f"the config does not make a {name}: {shown}", listed[:100])


def _fault(key: str, value: object, known: set[str], config_class: Any) -> str | None:
    """What is wrong with a field, if anything."""
    if key in REFUSED:
        return REFUSED[key]
    if key in config_class.sub_configs_defaults:
        return "configs within the config are not supported"
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.9)
        return f"{config_class.__name__} has no such field; did you mean {close[0]}?" if close else None
    total = _sum(value)
    return f"expected integers of at most {MAX_INTEGERS} in sum, got {total}" if total > MAX_INTEGERS else None


def _sum(value: object) -> int:
    """Of the integers in plain JSON, without their signs: some are lengths of loops."""
    if isinstance(value, int):
        return abs(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_sum, items))
