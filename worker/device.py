"""The device that a job computes on, and how alike its results are from run to run."""

import torch


def computing_device() -> torch.device:
    """The machine's accelerator (CUDA, where there is an NVIDIA card), else the CPU.

    To be asked for in the process of a job alone: a process that has counted its devices cannot hand them on to what it
    forks.
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def compute_reproducibly(device: torch.device) -> None:
    """Choose deterministic algorithms and whole float32, so that the same seed gives the same result, as on the CPU.

    On the CPU an operation without one is refused. On an accelerator such operations are too common for that, the
    gradient of adaptive pooling is one; they warn, and there a result is only nearly the same from run to run.

    Args:
        device: That is computed on.
    """
    # Convolutions would have TF32 on a card, 10 bits of a float32's 23; products of matrices have not, by default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # Unlike use_deterministic_algorithms, this loads no compiler.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "warn")
