"""The module of the sequential convolutional networks: `features`, `avgpool`, `classifier`, as in torchvision."""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from worker.architectures.geometry import Form
from worker.architectures.layout import Layout


class ConvNet(nn.Module):
    """Convolutions with ReLU and max pooling, then linear layers: (batch, channels, height, width) -> (batch, classes).

    Args:
        layout: Where the layers stand.
        form: Strides, padding, pools and the average.
        sizes: Widths by the names of `Layout.pattern`.
    """

    def __init__(self, layout: Layout, form: Form, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.features = _features(layout, form, sizes)
        self.avgpool = nn.Identity() if form.grid is None else nn.AdaptiveAvgPool2d(form.grid)
        self.classifier = _classifier(layout, sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of a batch."""
        x = self.avgpool(self.features(x))  # (batch, width, rows, columns)
        scores: Tensor = self.classifier(x.flatten(1))  # (batch, features) -> (batch, classes)
        return scores


def _features(layout: Layout, form: Form, sizes: Mapping[str, int]) -> nn.Sequential:
    """The convolutional part."""
    modules: list[nn.Module] = []
    before = sizes["channels"]
    for number, (window, pool) in enumerate(zip(form.convolutions, form.pools, strict=True), 1):
        width = sizes[f"conv{number}"]
        modules.append(nn.Conv2d(before, width, window.kernel, window.stride, window.padding, bias=layout.bias))
        if layout.batch_norm:
            modules.append(nn.BatchNorm2d(width))
        modules.append(nn.ReLU())
        if pool is not None:
            modules.append(nn.MaxPool2d(pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil))
        before = width
    return nn.Sequential(*modules)


def _classifier(layout: Layout, sizes: Mapping[str, int]) -> nn.Module:
    """The linear part; dropout sets half of the numbers to 0 in training, as published for all three networks."""
    names = ["features", *(f"fc{number}" for number in range(1, len(layout.linear))), "classes"]
    widths = [sizes[name] for name in names]
    linear = (nn.Linear(*pair) for pair in pairwise(widths))
    if not layout.classifier:
        return next(linear)
    return nn.Sequential(
        *(
            next(linear) if kind == "linear" else nn.ReLU() if kind == "relu" else nn.Dropout()
            for kind in layout.classifier.split()
        )
    )
