"""A stranger's script on the Trainer of transformers, a tiny ViT with a random start:

python transformers_train.py --task low --output_dir FOLDER
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from digits import digits
from transformers import (
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)


@dataclass
class Asked:
    """What the script takes besides the Trainer's arguments."""

    task: str = "low"


def rows(images: np.ndarray, labels: np.ndarray) -> list[dict]:
    """Images and labels as the Trainer wants them."""
    pairs = zip(torch.from_numpy(images)[:, None], labels.tolist(), strict=True)
    return [{"pixel_values": image, "labels": label} for image, label in pairs]


def main() -> None:
    asked, settings = HfArgumentParser((Asked, TrainingArguments)).parse_args_into_dataclasses()
    X, y, Xv, yv = digits(asked.task)
    set_seed(settings.seed)
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_labels=5,
    )
    model = ViTForImageClassification(config)
    # else the checkpoints of 5.24 have names that its Trainer does not find when it resumes: the
    # layers would start anew, with a warning of missing keys
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    trainer = Trainer(
        model,
        settings,
        train_dataset=rows(X, y),
        eval_dataset=rows(Xv, yv),
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())
        },
    )
    trainer.train(resume_from_checkpoint=settings.resume_from_checkpoint)


if __name__ == "__main__":
    main()
