"""Classifiers of transformers by name and config: the library's own model is the oracle; a config is a stranger's."""

import copy
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.library_models import TEXT, distilbert
from support.worker_jobs import add_file, artifact, run_once
from torch import Tensor

from adtn.exporting import traced
from adtn.tracing import PlainADTN
from jobs.problems import ProblemError
from jobs.schemas.report import Report
from worker import libraries
from worker.libraries.importing import imported
from worker.resources import Resources

NAME = "transformers/DistilBertForSequenceClassification"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in these tests connects to anything."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    imported("transformers")


def words(count: int, length: int = 12) -> Tensor:
    """Sequences of tokens 1 to 39, padded with 0 at their ends."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 40, (count, length), generator=generator)
    lengths = torch.randint(1, length + 1, (count, 1), generator=generator)
    return tokens * (torch.arange(length) < lengths)


def refused(state: dict[str, Tensor], config: dict[str, Any], shape: tuple[int, ...] | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        libraries.build(NAME, state, shape, config)
    return caught.value


def test_a_model_is_built_by_its_config_and_answers_with_scores() -> None:
    model = distilbert(classes=5)
    built = libraries.build(NAME, model.state_dict(), (12,), TEXT)
    assert built.classes == 5
    assert built.numbers == range(40)
    assert built.model.training
    assert built.model.state_dict().keys() == model.state_dict().keys()
    tokens = words(6)
    expected = model(input_ids=tokens, attention_mask=(tokens != 0).long()).logits
    assert torch.equal(built.model.eval()(tokens.float()), expected)
    assert torch.equal(copy.deepcopy(built.model)(tokens.float()), expected)


def test_dropout_is_that_of_the_config() -> None:
    built = libraries.build(NAME, distilbert(3).state_dict(), (12,), {**TEXT, "dropout": 0.0, "attention_dropout": 0.0})
    rates = {module.p for module in built.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.0, 0.2}  # the last is that of the class's head


def test_a_sample_of_padding_alone_is_read_as_it_is() -> None:
    model = distilbert(3)
    tokens = torch.zeros(2, 12)
    built = libraries.build(NAME, model.state_dict(), (12,), TEXT)
    assert torch.equal(built.model.eval()(tokens), model(input_ids=tokens.long()).logits)


def test_the_last_token_is_found_where_a_model_classifies_by_it() -> None:
    import transformers

    settings = {"vocab_size": 40, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 16, "pad_token_id": 0}
    torch.manual_seed(0)
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(num_labels=3, **settings)).eval()
    name, tokens = "transformers/GPT2ForSequenceClassification", words(6)
    built = libraries.build(name, model.state_dict(), (12,), settings)
    expected = model(input_ids=tokens, attention_mask=(tokens != 0).long()).logits
    torch.testing.assert_close(built.model.eval()(tokens.float()), expected)
    with pytest.raises(ProblemError, match="no padding token"):
        libraries.build(name, model.state_dict(), (12,), {**settings, "pad_token_id": None})


def test_a_token_that_only_the_config_names_starts_a_decoder() -> None:
    import transformers

    settings = {"vocab_size": 40, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    model = transformers.T5ForSequenceClassification(transformers.T5Config(num_labels=3, **settings, **tokens)).eval()
    built = libraries.build(
        "transformers/T5ForSequenceClassification", model.state_dict(), (4,), {**settings, **tokens}
    )
    samples = torch.tensor([[5, 7, 9, 1], [8, 3, 1, 0]])
    expected = model(input_ids=samples, attention_mask=(samples != 0).long()).logits
    torch.testing.assert_close(built.model.eval()(samples.float()), expected)


@pytest.mark.parametrize("kept", ["model.shared.weight", "model.decoder.embed_tokens.weight"])
def test_of_tied_embeddings_any_one_key_is_enough(kept: str, resources: Resources, tmp_path: Path) -> None:
    import transformers

    size = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16, "dropout": 0.0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "vocab_size": 64}
    settings = {**size, **heads, **tokens}
    torch.manual_seed(0)
    model = transformers.BartForSequenceClassification(transformers.BartConfig(num_labels=3, **settings)).eval()
    state = {key: tensor for key, tensor in model.state_dict().items() if "embed_tokens" not in key}
    state[kept] = state.pop("model.shared.weight")
    built = libraries.build("transformers/BartForSequenceClassification", state, (12,), settings)
    samples = torch.randint(3, 64, (40, 12))
    samples[:, -1] = 2
    expected = model(input_ids=samples, attention_mask=(samples != 1).long()).logits
    torch.testing.assert_close(built.model.eval()(samples.float()), expected)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "bart.safetensors")
    labels = np.arange(40) % 3
    split = {"train_x": samples.float().numpy(), "train_y": labels, "test_x": samples.float().numpy(), "test_y": labels}
    np.savez(tmp_path / "texts.npz", **split)
    job = run_once(
        resources,
        {
            "checkpoint": add_file(resources, tmp_path / "bart.safetensors", "checkpoint"),
            "dataset": add_file(resources, tmp_path / "texts.npz", "dataset"),
            "architecture": "transformers/BartForSequenceClassification",
            "architecture_config": settings,
            "fit": {"steps": 2},
            "fine_tune": {"epochs": 1},
            "exports": ["dense"],
        },
    )
    assert job.status == "succeeded", job.error
    assert load_file(artifact(resources, job.id, "dense", tmp_path)).keys() == state.keys()


def test_images_are_classified_too() -> None:
    import transformers

    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "image_size": 16,
        "patch_size": 4,
        "num_channels": 1,
    }
    config = transformers.ViTConfig(num_labels=4, attn_implementation="eager", **settings)
    model = transformers.ViTForImageClassification(config).eval()
    name, samples = "transformers/ViTForImageClassification", torch.rand(3, 1, 16, 16)
    built = libraries.build(name, model.state_dict(), (16, 16), settings)
    assert built.input_shape == (1, 16, 16)
    assert torch.equal(built.model.eval()(samples), model(samples).logits)
    with pytest.raises(ProblemError, match="doesn't match model"):
        libraries.build(name, model.state_dict(), (1, 32, 32), settings)


def test_tables_that_other_versions_stored_are_kept() -> None:
    state = {**distilbert(3).state_dict(), "distilbert.embeddings.position_ids": torch.arange(16).expand(1, -1)}
    built = libraries.build(NAME, state, None, TEXT)
    assert built.model.state_dict().keys() == state.keys()
    assert built.input_shape == (16,)


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_a_model_is_traced_for_any_number_of_samples() -> None:
    built = libraries.build(NAME, distilbert(3).state_dict(), (12,), TEXT)
    program: Callable[[Tensor], Tensor] = traced(built.model, built.input_shape, PlainADTN).module()
    tokens = words(5).float()
    torch.testing.assert_close(program(tokens), built.model.eval()(tokens))


def test_what_a_config_leaves_out_is_noted() -> None:
    config = {
        **TEXT,
        "auto_map": {"AutoModel": "evil.Model"},
        "attn_implementation": "kernels-community/flash-attn",
        "_attn_implementation": "flash_attention_2",
        "torch_dtype": "float16",
        "num_labels": 10**9,
        "architectures": ["DistilBertForMaskedLM"],
        "transformers_version": "4.10.3",
        "output_past": True,
    }
    built = libraries.build(NAME, distilbert(3).state_dict(), None, config)
    assert built.classes == 3
    assert built.model.config._attn_implementation == "eager"
    assert not hasattr(built.model.config, "auto_map")
    notes = " ".join(built.details["notes"])
    for word in ("auto_map", "attn_implementation", "torch_dtype", "num_labels", "output_past"):
        assert word in notes
    assert built.details["config"] == {**{key: TEXT[key] for key in TEXT if key != "model_type"}, "num_labels": 3}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"trust_remote_code": True}, "never run"),
        ({"model_type": "bert"}, "expected 'distilbert', got 'bert'"),
        ({"n_head": 4}, "did you mean n_heads?"),
        ({"n_heads": "four"}, "n_heads"),
        ({"n_heads": 5}, "5"),
        ({"activation": "open('/etc/passwd')"}, "leaky_relu"),
        ({"vocab_size": 10**12}, "at most 10000000"),
        ({"pad_token_id": [10**7, [1]]}, "got 10000001"),
        ({"pad_token_id": 41}, "Padding_idx"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(changes: dict[str, Any], says: str) -> None:
    problem = refused(distilbert(3).state_dict(), {**TEXT, **changes})
    assert problem.code == "architecture_config_invalid"
    assert says in problem.detail
    assert all(fault.pointer.startswith("/architecture_config") for fault in problem.errors)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_layers": 3}, "distilbert.transformer.layer.2.attention.q_lin.weight: expected (32, 32), got no such key"),
        ({"vocab_size": 41}, "distilbert.embeddings.word_embeddings.weight: expected (41, 32), got (40, 32)"),
        ({"n_layers": 10**7}, "far more parts"),
        ({"max_position_embeddings": 10**7, "sinusoidal_pos_embds": True}, "expected (10000000, 32), got (16, 32)"),
    ],
)
def test_a_config_is_compared_with_the_checkpoint_before_memory_is_taken(changes: dict[str, Any], says: str) -> None:
    problem = refused(distilbert(3).state_dict(), {**TEXT, **changes})
    assert problem.code == "checkpoint_mismatch"
    assert says in problem.detail


@pytest.mark.parametrize(("shape", "says"), [((17,), "at most 16 tokens"), ((1, 8, 8), "(tokens,)")])
def test_samples_that_are_no_sequences_or_too_long_are_refused(shape: tuple[int, ...], says: str) -> None:
    problem = refused(distilbert(3).state_dict(), TEXT, shape)
    assert problem.code == "dataset_mismatch"
    assert says in problem.detail


@pytest.mark.parametrize(
    "model", ["DistilBertForMaskedLM", "AutoModel", "TimmWrapperForImageClassification", "pipeline"]
)
def test_only_classes_that_classify_are_names(model: str) -> None:
    with pytest.raises(ProblemError) as caught:
        libraries.build(f"transformers/{model}", {}, None)
    assert caught.value.code == "unknown_architecture"


def test_a_misspelt_class_is_told_with_the_one_that_is_close() -> None:
    with pytest.raises(ProblemError, match=f"did you mean {NAME}"):
        libraries.build("transformers/DistillBertForSequenceClassification", {}, None)


def test_a_config_is_for_transformers_alone() -> None:
    with pytest.raises(ProblemError) as caught:
        libraries.build("timm/test_resnet", {}, None, {})
    assert caught.value.code == "architecture_config_invalid"


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
def test_a_job_goes_all_the_way(resources: Resources, tmp_path: Path) -> None:
    model = distilbert(classes=4, n_layers=1).half()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    samples = words(80).numpy().astype(np.float32)
    labels = np.arange(80) % 4
    np.savez(tmp_path / "words.npz", train_x=samples, train_y=labels, test_x=samples[:20], test_y=labels[:20])
    settings = {
        "checkpoint": add_file(resources, tmp_path / "model.safetensors", "checkpoint"),
        "dataset": add_file(resources, tmp_path / "words.npz", "dataset"),
        "architecture": NAME,
        "architecture_config": {**TEXT, "n_layers": 1},
        "compression": {"layers": ["*.ffn.lin1", "distilbert.embeddings.word_embeddings"], "structure": {"depth": 1}},
        "fit": {"steps": 5},
        "fine_tune": {"epochs": 1, "dense": "freeze"},
        "exports": ["dense", "onnx"],
    }
    job = run_once(resources, settings)
    assert job.status == "succeeded", job.error
    report = Report.model_validate(job.report)
    assert [layer.kind for layer in report.parameters.layers] == ["embedding", "linear"]
    details = report.environment["architecture"]
    assert (details["library"], details["classes"]) == ("transformers", 4)
    assert "computed in float32, the checkpoint holds torch.float16" in details["notes"]
    dense = load_file(artifact(resources, job.id, "dense", tmp_path))
    assert {key: (tensor.dtype, tensor.shape) for key, tensor in dense.items()} == {
        key: (tensor.dtype, tensor.shape) for key, tensor in model.state_dict().items()
    }
    model.load_state_dict(dense)
    tokens = words(80)[:20]
    scores = model.float()(input_ids=tokens, attention_mask=(tokens != 0).long()).logits
    assert report.accuracy is not None
    right = scores.argmax(1) == torch.from_numpy(labels[:20])
    assert report.accuracy.final == pytest.approx(float(right.float().mean()))
