"""A network in the form of VGG-16, small: features, avgpool, classifier, with the two large linear layers encoded."""

import torch
from torch import Tensor, nn

from adtn import ADTN, brick_wall, encode, sites_for

ENCODED = ("classifier.0.weight", "classifier.3.weight")


class SmallVGG(nn.Module):
    """(batch, 3, 16, 16) to (batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(8),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))  # makes four numbers out of each, as VGG-16 does of small images
        self.classifier = nn.Sequential(
            nn.Linear(64, 32),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(32, 32),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Linear(32, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return scores


def small_vgg(encoded: bool = True) -> SmallVGG:
    """Always the same weights; with ADTNs or before."""
    torch.manual_seed(0)
    model = SmallVGG()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # statistics as a trained network has them
        model.features[1].running_mean.normal_(generator=generator)
        model.features[1].running_var.uniform_(0.5, 2, generator=generator)
    for key in ENCODED if encoded else ():
        shape = model.get_parameter(key).shape
        encode(model, key, ADTN(shape, brick_wall(sites_for(shape)), generator=generator))
    return model


def images(count: int = 64) -> tuple[Tensor, Tensor]:
    """Noise, and labels that can be learned from it."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, 3, 16, 16, generator=generator)
    return inputs, inputs.mean(dim=(2, 3)).argmax(1)
