"""The generators of random numbers that belong to a device."""

import torch


def devices_with_generators(device: torch.device) -> list[torch.device]:
    """The device, if it has a generator that is found by it: not the CPU's, nor Apple's, which there is one of each."""
    return [] if device.type in ("cpu", "mps") else [device]
