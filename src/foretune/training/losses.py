"""The loss of a recipe, and the mixing of images and labels that goes with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from foretune.training.recipe import Recipe


class Loss:
    """Cross-entropy of logits (B, classes) and labels (B,), or shares of labels (B, classes).

    With `class_weights`, an image of class c counts N / (classes * images of c), as scikit-learn's
    "balanced" has it.
    """

    def __init__(self, recipe: Recipe, labels: Tensor, classes: int):
        self.smoothing = recipe.label_smoothing
        self.weight: Tensor | None = None
        if recipe.class_weights:
            counts = torch.bincount(labels, minlength=classes).clamp(min=1)
            self.weight = len(labels) / (classes * counts.float())

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        smoothing = 0.0 if target.is_floating_point() else self.smoothing
        return F.cross_entropy(
            logits.float(), target, weight=self.weight, label_smoothing=smoothing
        )


class Mixing:
    """timm's `Mixup` of the recipe: of a batch of an even number of images, blended or with a
    rectangle of each other, one way drawn for the whole batch; labels become shares, smoothed.
    """

    def __init__(self, recipe: Recipe, classes: int):
        from timm.data.mixup import Mixup

        self._mixup = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images and shares of labels (B, classes), drawn from the global generators."""
        if len(images) == 1:
            return images, labels
        mixed, shares = self._mixup(images, labels)
        return mixed, shares
