"""Batched augmentation on tensors that never leave the device.

The same generator gives the same pictures.

| part           | what it does to each image of a batch                                           |
|----------------|---------------------------------------------------------------------------------|
| `crop`         | a window of 70 to 100 % of the side, anywhere, scaled back                      |
| `flip`         | mirrored left to right half of the time                                         |
| `colour`       | brightness, contrast and saturation each scaled by a factor between 0.6 and 1.4 |
| `auto`         | RandAugment or TrivialAugment (torchvision), which draw for each image          |
| `erasing`      | a rectangle in ImageNet's mean colour (timm's RandomErasing)                    |

A policy's name has the first three in this order, such as `crop_flip_colour`; `none` has none.
Random numbers are drawn on the CPU, so that an epoch's augmentation does not depend on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from foretune.errors import BadInput
from foretune.training.architectures import IMAGENET_MEAN
from foretune.training.knobs import POLICIES
from foretune.training.recipe import Augmentation
from foretune.training.seeds import drawing

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to float32 in [0, 1], channels last."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(pixels - mean) / std per channel, pixels in [0, 1]; in their place, which takes less than
    half as long as beside them.
    """
    shift = torch.tensor(mean, device=pixels.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=pixels.device).view(1, 3, 1, 1)
    return pixels.sub_(shift).div_(scale)


def augment(pixels: Tensor, policy: str | Augmentation, generator: torch.Generator) -> Tensor:
    """Augment float (B, 3, H, W) in [0, 1] with fresh draws from the CPU `generator`.

    Raises `BadInput` for an unknown policy.
    """
    chosen = Augmentation(policy) if isinstance(policy, str) else policy
    if chosen.policy not in POLICIES:
        raise BadInput(
            f"augmentation must be one of {', '.join(POLICIES)}, but got {chosen.policy!r}"
        )
    pixels = _moved_and_coloured(pixels, chosen.policy, generator)
    if chosen.auto != "none" or chosen.erasing > 0:
        with drawing(int(torch.randint(2**62, (), generator=generator)), pixels.device):
            pixels = _erased(_automatic(pixels, chosen), chosen.erasing)
    return pixels


def _moved_and_coloured(pixels: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Crop, flip and colour, as far as they are in the policy's name."""
    if policy == "none":
        return pixels
    count, device, parts = len(pixels), pixels.device, policy.split("_")
    draws = torch.rand(count, 7, generator=generator).to(device)
    mirrored = draws[:, 3] < 0.5
    if "crop" in parts:
        side = 0.7 + 0.3 * draws[:, 0]
        flip = torch.ones(count, device=device)
        if "flip" in parts:
            flip = 1 - 2 * mirrored.float()
        # output coordinates to input coordinates, both in [-1, 1]
        transform = torch.zeros(count, 2, 3, device=device)
        transform[:, 0, 0], transform[:, 1, 1] = side * flip, side
        transform[:, :, 2] = (1 - side[:, None]) * (2 * draws[:, 1:3] - 1)
        grid = F.affine_grid(transform, list(pixels.shape), align_corners=False)
        pixels = F.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
    elif "flip" in parts:
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    if "colour" in parts:
        factor = (0.6 + 0.8 * draws[:, 4:7]).view(count, 3, 1, 1, 1)
        pixels = (pixels * factor[:, 0]).clamp(0, 1)
        grey = (pixels * torch.tensor(_GREY, device=device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        level = grey.mean((2, 3), keepdim=True)
        pixels = ((pixels - level) * factor[:, 1] + level).clamp(0, 1)
        pixels = ((pixels - grey) * factor[:, 2] + grey).clamp(0, 1)
    return pixels.contiguous(memory_format=torch.channels_last)


def _automatic(pixels: Tensor, chosen: Augmentation) -> Tensor:
    """RandAugment or TrivialAugment of torchvision, on 8-bit images as in their papers."""
    if chosen.auto == "none":
        return pixels
    from torchvision.transforms import v2

    transform = (
        v2.RandAugment(magnitude=chosen.magnitude)
        if chosen.auto == "randaugment"
        else v2.TrivialAugmentWide()
    )
    images = pixels.mul(255).round_().to(torch.uint8)
    changed = torch.stack([transform(image) for image in images])  # each draws its own
    return to_float(changed)


def _erased(pixels: Tensor, share: float) -> Tensor:
    """Rectangles of some images (timm's RandomErasing) in ImageNet's mean colour."""
    if share == 0:
        return pixels
    from timm.data.random_erasing import RandomErasing

    kept = RandomErasing(share, mode="const", device=str(pixels.device))(torch.ones_like(pixels))
    colour = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(1, 3, 1, 1)
    return torch.where(kept > 0, pixels, colour)


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 (N, 3, H, W) to uint8 (N, 3, size, size) by antialiased bilinear interpolation.

    It goes in chunks, so that floats of all images never exist at once.
    """
    if images.shape[-2:] == (size, size):
        return images
    chunks = []
    for part in images.split(256):
        scaled = F.interpolate(
            part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        chunks.append(scaled.round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(chunks)
