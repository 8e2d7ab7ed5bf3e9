"""A user's own network and training loop. Nothing here knows that compression exists."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class DigitsNet(nn.Module):
    """A LeNet-5 for grey images of 8 x 8 pixels: (batch, 1, 8, 8) -> (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(128, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of a batch."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)  # (batch, 16, 4, 4)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)  # (batch, 32, 2, 2)
        x = functional.relu(self.fc1(x.flatten(1)))  # (batch, 256)
        scores: Tensor = self.fc3(functional.relu(self.fc2(x)))  # (batch, 10)
        return scores


def train(model: nn.Module, inputs: Tensor, labels: Tensor, *, epochs: int, seed: int = 0) -> None:
    """Train with Adam and cross entropy."""
    shuffle = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs), generator=shuffle).split(64):
            loss = functional.cross_entropy(model(inputs[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of inputs whose largest score is the label's."""
    model.eval()
    return int((model(inputs).argmax(dim=1) == labels).sum()) / len(labels)
