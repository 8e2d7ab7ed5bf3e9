"""AlexNet, ZFNet and VGG-16 as descriptions: sizes, and the forms in which each is known.

A form is what leaves no trace in the weights: strides, padding, pools and the average before the classifier. The forms
of a network are tried in the order of `forms`, and the first that fits is taken:

1. As published for 224 x 224 images, with adaptive average pooling in front of the classifier as in torchvision.
2. For small images, without that average: the spacings in `Network.small`, in order.
3. The same with the average of each channel over the whole map, then with the average of 1.

Sources: AlexNet as torchvision has it, arXiv:1404.5997; ZFNet arXiv:1311.2901, figure 3; VGG-16 arXiv:1409.1556,
configuration D. ZFNet's contrast normalisation is left out, as it is from torchvision's AlexNet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.architectures.geometry import Form, Window

ALEXNET_CLASSIFIER = "dropout linear relu dropout linear relu linear"
VGG_CLASSIFIER = "linear relu dropout linear relu dropout linear"


@dataclass(frozen=True)
class Spacing:
    """Strides, padding and pools, for kernels of any size.

    Attributes:
        pools: One for each place where the network pools; fewer if the last places are left out.
        strides: Of the first convolutions; the others have a stride of 1.
        padding: Of the first convolutions; the others are padded by (kernel - 1) // 2.
    """

    pools: tuple[Window, ...]
    strides: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()


@dataclass(frozen=True)
class Network:
    """A sequential convolutional network.

    Attributes:
        name: The name it is known by.
        widths: Published channels of each convolution.
        kernels: Published side of each convolution's kernel.
        small_kernels: The same for small images.
        pooled: After which convolutions a pool follows, counted from 1.
        published: The spacings for 224 x 224 images.
        small: The spacings for small images, the most usual first.
        grid: The side of the map that the published classifier takes.
        classifier: What the published classifier consists of, a key of `layout.CLASSIFIERS`.
        hidden: Published widths of the hidden linear layers.
    """

    name: str
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    small_kernels: tuple[int, ...]
    pooled: tuple[int, ...]
    published: tuple[Spacing, ...]
    small: tuple[Spacing, ...]
    grid: int
    classifier: str
    hidden: tuple[int, ...] = (4096, 4096)


HALVE = Window(2, 2)
HALVE_UP = Window(2, 2, ceil=True)  # 28 x 28 has no room for VGG's five halvings, rounded up it has
OVERLAP = Window(3, 2)
OVERLAP_PADDED = Window(3, 2, 1)
OVERLAP_UP = Window(3, 2, ceil=True)

ALEXNET = Network(
    name="alexnet",
    widths=(64, 192, 384, 256, 256),
    kernels=(11, 5, 3, 3, 3),
    small_kernels=(3, 3, 3, 3, 3),
    pooled=(1, 2, 5),
    published=(Spacing((OVERLAP,) * 3, strides=(4,), padding=(2,)),),
    small=tuple(Spacing((pool,) * 3, strides) for pool in (HALVE, OVERLAP) for strides in ((2,), (1,), (4,))),
    grid=6,
    classifier=ALEXNET_CLASSIFIER,
)
ZFNET = Network(
    name="zfnet",
    widths=(96, 256, 384, 384, 256),
    kernels=(7, 5, 3, 3, 3),
    small_kernels=(7, 5, 3, 3, 3),
    pooled=(1, 2, 5),
    # Both make the maps of the paper, of 110, 55, 26, 13 and 6 positions a side, which it does not explain.
    published=tuple(
        Spacing((pool, pool, OVERLAP), strides=(2, 2), padding=(1, 0)) for pool in (OVERLAP_PADDED, OVERLAP_UP)
    ),
    small=tuple(
        Spacing((pool,) * 3, strides)
        for pool in (HALVE, OVERLAP, OVERLAP_PADDED)
        for strides in ((2, 1), (1, 1), (2, 2))
    ),
    grid=6,
    classifier=ALEXNET_CLASSIFIER,
)
VGG16 = Network(
    name="vgg16",
    widths=(64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    kernels=(3,) * 13,
    small_kernels=(3,) * 13,
    pooled=(2, 4, 7, 10, 13),
    published=(Spacing((HALVE,) * 5),),
    small=(Spacing((HALVE,) * 5), Spacing((HALVE_UP,) * 5), Spacing((HALVE,) * 4)),
    grid=7,
    classifier=VGG_CLASSIFIER,
)
NETWORKS = (ALEXNET, ZFNET, VGG16)


def forms(network: Network, kernels: Sequence[int]) -> list[Form]:
    """The forms in which a network is known, for kernels of given sizes, in the order in which they are tried.

    A convolution whose stride is larger than its kernel would not see all of its input: no form has one.
    """
    whole = [spacing for spacing in network.small if len(spacing.pools) == len(network.pooled)]
    spaced = [
        *((spacing, network.grid) for spacing in network.published),
        *((spacing, None) for spacing in network.small),
        # Who leaves out a pool wants a larger map, not its average.
        *((spacing, grid) for grid in (1, network.grid) for spacing in whole),
    ]
    found = [_form(network, kernels, spacing, grid) for spacing, grid in spaced]
    return [form for form in found if all(window.stride <= window.kernel for window in form.convolutions)]


def _form(network: Network, kernels: Sequence[int], spacing: Spacing, grid: int | None) -> Form:
    """A spacing for kernels of given sizes."""
    strides = (*spacing.strides, *(1 for _ in kernels[len(spacing.strides) :]))
    padding = (*spacing.padding, *((kernel - 1) // 2 for kernel in kernels[len(spacing.padding) :]))
    pools = dict(zip(network.pooled, spacing.pools, strict=False))
    return Form(
        tuple(Window(*sizes) for sizes in zip(kernels, strides, padding, strict=True)),
        tuple(pools.get(number) for number in range(1, len(kernels) + 1)),
        grid,
    )
