"""Batched augmentation: ranges, determinism, and what each policy may change."""

import pytest
import torch

from foretune.errors import BadInput
from foretune.training.augmentation import POLICIES, augment, normalise, resize, to_float


def pictures() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", POLICIES)
def test_same_generator_same_pictures_in_range(policy: str) -> None:
    x = pictures()
    one, same, other = (augment(x, policy, generator(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and one.shape == x.shape
    assert one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, other) == (policy == "none")


def test_flip_mirrors_about_half() -> None:
    ramp = torch.linspace(0, 1, 16).expand(64, 3, 16, 16)
    slope = (
        augment(ramp, "crop_flip", generator())[:, 0, 8, 12]
        - augment(ramp, "crop_flip", generator())[:, 0, 8, 4]
    )
    assert 20 <= int((slope < 0).sum()) <= 44
    slope = (
        augment(ramp, "crop", generator())[:, 0, 8, 12]
        - augment(ramp, "crop", generator())[:, 0, 8, 4]
    )
    assert (slope > 0).all()


def test_crop_scales_between_70_and_100_percent() -> None:
    # value = position of the pixel's centre
    ramp = torch.linspace(0, 1, 17)[:16].add(1 / 32).expand(64, 3, 16, 16)
    out = augment(ramp, "crop", generator())[:, 0, 8, :]
    side = (out[:, 12] - out[:, 4]) / (ramp[0, 0, 0, 12] - ramp[0, 0, 0, 4])
    assert side.min() >= 0.69 and side.max() <= 1.01 and side.max() - side.min() > 0.2


def test_colour_changes_grey_pictures_in_level_only() -> None:
    grey = torch.full((32, 3, 8, 8), 0.5)
    out = augment(grey, "crop_flip_colour", generator())
    torch.testing.assert_close(out, out[:, :1, :1, :1].expand_as(out), rtol=0, atol=1e-5)
    assert 0.29 <= out.min() < 0.4 and 0.6 < out.max() <= 0.81


def test_normalise_and_float() -> None:
    x = to_float(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert float(x.max()) == 1.0
    out = normalise(x, (0.5, 0.0, 0.25), (0.5, 1.0, 0.25))
    assert out[0, :, 0, 0].tolist() == [1.0, 1.0, 3.0]


def test_resize_keeps_flat_pictures_and_the_mean() -> None:
    flat = torch.full((300, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(resize(flat, 16), flat)
    assert torch.equal(resize(flat, 24), torch.full((300, 3, 24, 24), 77, dtype=torch.uint8))
    noise = torch.randint(0, 256, (2, 3, 64, 64), generator=generator(), dtype=torch.uint8)
    assert abs(float(resize(noise, 16).float().mean() - noise.float().mean())) < 1


def test_unknown_policy() -> None:
    with pytest.raises(BadInput, match="crop_flip"):
        augment(pictures(), "mixup", generator())
