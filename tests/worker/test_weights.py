"""A state dict without a model becomes a module that holds it, whatever its keys are called."""

import torch

from worker.weights import bare_module


def test_state_dict_of_the_bare_module_is_the_state_it_was_made_of() -> None:
    tied = torch.randn(4, 3)
    state = {
        "encoder.weight": tied,
        "train.half.weight": torch.randn(2, 2, dtype=torch.float64),  # named like methods of a module
        "position": torch.randn(1, 5, dtype=torch.bfloat16),
        "norm.num_batches_tracked": torch.tensor(7),
        "decoder.weight": tied,
    }
    module = bare_module(state)
    held = module.state_dict()
    assert held.keys() == state.keys()
    for key, tensor in state.items():
        assert held[key].dtype == tensor.dtype
        assert torch.equal(held[key], tensor)
    assert sum(parameter.numel() for parameter in module.parameters()) == 12 + 4 + 5
