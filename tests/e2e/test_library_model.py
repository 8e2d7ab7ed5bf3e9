"""A classifier of transformers by name through the running service, up to the accuracy that its own code finds."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from support.api import artifact, create, succeeded, upload
from support.library_models import TEXT, distilbert

from worker.libraries.importing import imported

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

NAME = "transformers/DistilBertForSequenceClassification"


def test_a_model_is_compressed_by_its_name_and_its_config(api: httpx.Client, tmp_path: Path) -> None:
    imported("transformers")
    model = distilbert(classes=3)
    path, words = tmp_path / "model.safetensors", tmp_path / "words.npz"
    save_file(model.state_dict(), path)
    tokens = torch.randint(1, 40, (90, 12), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 0] % 3
    samples = tokens.numpy().astype(np.float32)
    np.savez(words, train_x=samples, train_y=labels, test_x=samples[:30], test_y=labels[:30])
    file = upload(api, path)
    assert api.get(f"/v1/files/{file['id']}/layers").json()["data"]
    settings = {
        "checkpoint": file["id"],
        "dataset": upload(api, words, "dataset")["id"],
        "architecture": NAME,
        "architecture_config": {**TEXT, "id2label": {"0": "a"}, "pad_token_id": 0},
        "compression": {"layers": ["*.lin1", "*.lin2"], "structure": {"depth": 1}},
        "fit": {"steps": 5},
        "fine_tune": {"epochs": 2, "batch_size": 30},
    }
    estimate = api.post("/v1/jobs/estimate", json=settings)
    assert estimate.status_code == 200, estimate.text
    job = succeeded(api, create(api, **settings)["id"])
    report = job["report"]
    assert report["verified"]["accuracy"] == report["accuracy"]["final"]
    recipe = json.loads(artifact(api, job["id"], "recipe.json"))
    assert recipe["architecture_config"] == {**TEXT, "pad_token_id": 0}
    model.load_state_dict(load_bytes(artifact(api, job["id"], "model.dense.safetensors")))
    found = model(input_ids=tokens[:30]).logits.argmax(1)
    assert report["accuracy"]["final"] == int((found == labels[:30]).sum()) / 30
