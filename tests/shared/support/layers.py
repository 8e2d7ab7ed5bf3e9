"""The layers of a LeNet-5, as the planner sees them."""

from adtn.layer import Layer

LENET = (
    Layer("conv1", "conv1.weight", "conv2d", (6, 1, 5, 5)),
    Layer("conv2", "conv2.weight", "conv2d", (16, 6, 5, 5)),
    Layer("fc1", "fc1.weight", "linear", (120, 400)),
    Layer("fc2", "fc2.weight", "linear", (84, 120)),
    Layer("fc3", "fc3.weight", "linear", (10, 84)),
)
LENET_AND_STEPS = (*LENET, Layer("steps", "steps", "parameter", (4, 4), False, "it has 16 entries, fewer than 64"))
"""With a parameter that is too small to be encoded."""

THREE = ["conv2", "fc1", "fc2"]
