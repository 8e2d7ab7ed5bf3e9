"""ImageNet checkpoints of torchvision's AlexNet and VGG-16 load as they are; the oracle is torchvision's own model."""

import pytest
import torch
from support.library_models import torchvision

from worker import architectures


@pytest.mark.parametrize(
    ("theirs", "ours", "side"), [("alexnet", "alexnet", 224), ("vgg16", "vgg16", 64), ("vgg16_bn", "vgg16", 64)]
)
def test_an_imagenet_checkpoint_of_torchvision_is_the_network_that_it_was(theirs: str, ours: str, side: int) -> None:
    with torch.device("meta"):  # the usual start of so many weights takes seconds
        expected = torchvision().models.get_model(theirs, weights=None)
    expected = expected.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in expected.state_dict().values():
        tensor.fill_(1) if tensor.dim() < 2 else tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    image = torch.rand(1, 3, side, side, generator=generator)
    built = architectures.build(ours, expected.state_dict(), (3, side, side))
    assert built.classes == 1000
    assert torch.equal(built.model.eval()(image), expected.eval()(image))
