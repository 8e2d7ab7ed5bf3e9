"""A user's own models for the 8 x 8 digits, and how a user trains and evaluates them."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from worker.datasets import Dataset


class DigitsLeNet(nn.Module):
    """A variant of LeNet-5 with the keys conv1, conv2, fc1, fc2, fc3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(64, 96)
        self.fc2 = nn.Linear(96, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(functional.relu(self.fc2(x)))
        return logits


def train(model: nn.Module, data: Dataset, epochs: int = 20) -> None:
    """Train to the end of a small schedule, always to the same weights."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(data.train_x)).split(64):
            loss = functional.cross_entropy(model(data.train_x[chosen]), data.train_y[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    model.eval()


def trained_lenet(data: Dataset) -> DigitsLeNet:
    """A trained model, always the same one."""
    torch.manual_seed(0)
    model = DigitsLeNet()
    train(model, data)
    return model


def write_lenet(folder: Path) -> Path:
    """Write the checkpoint of an untrained model, always the same one."""
    torch.manual_seed(0)
    path = folder / "lenet.safetensors"
    save_file(DigitsLeNet().state_dict(), path)
    return path


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    return float((model(inputs).argmax(1) == labels).double().mean())
