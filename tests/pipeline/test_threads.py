"""Stages whose fits would differ between machines run on one thread."""

import torch

from foretune.pipeline.threads import on_one_thread


def test_a_stage_adds_up_on_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        on_one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
