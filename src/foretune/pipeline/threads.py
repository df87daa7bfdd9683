"""Numbers that do not depend on how many cores a machine has."""


def on_one_thread() -> None:
    """Have PyTorch add up on one thread, in this process: sums of several are another sum each
    time that their number changes, and choices that a fit makes flip with it.
    """
    import torch

    torch.set_num_threads(1)
