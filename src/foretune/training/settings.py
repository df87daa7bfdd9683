"""The settings that all trials of a study share.

Nothing is imported here that takes time: the command line makes its options from these fields.
"""

from dataclasses import dataclass, field
from typing import Any

from foretune.errors import BadInput


@dataclass(frozen=True)
class Settings:
    """What all trials of a study share. Times and accuracies behind the defaults:
    docs/guide/networks.md.
    """

    network: str = field(
        default="mobilenet_v2",
        metadata={
            "help": "any name of timm or torchvision: mobilenet_v2, convnext_tiny, timm:resnet18, ..."
        },
    )
    image_size: int = field(
        default=48,
        metadata={"help": "side of the image that the network sees", "metavar": "PIXELS"},
    )
    pretrained: bool = field(
        default=True,
        metadata={
            "help": "start from ImageNet's weights",
            "off": ("--from-scratch", "start from random weights, not from ImageNet's"),
        },
    )
    weights: str | None = field(
        default=None,
        metadata={
            "help": "start from the weights in this file (safetensors, or a PyTorch state_dict), "
            "not from ImageNet's",
            "metavar": "FILE",
        },
    )
    batch_size: int = field(
        default=32,
        metadata={"help": "images of a step, unless the configuration says", "metavar": "IMAGES"},
    )
    train_limit: int = field(
        default=400,
        metadata={
            "help": "train on so many images of the training part, stratified; 0: all",
            "metavar": "IMAGES",
        },
    )
    valid_limit: int = field(
        default=300,
        metadata={
            "help": "judge by so many images of the validation part, stratified; 0: all",
            "metavar": "IMAGES",
        },
    )
    # schedules that end, end there
    max_epoch: int = field(
        default=10, metadata={"help": "epochs of a full training", "metavar": "EPOCHS"}
    )
    device: str = field(
        default="auto", metadata={"help": "auto, cpu, cuda, cuda:1 (default: auto)"}
    )
    threads: int = field(
        default=1,
        metadata={
            "help": "CPU threads of a trial; the same seed gives the same result for one value",
        },
    )

    compile: bool = field(
        default=False, metadata={"help": "compile the network with torch.compile"}
    )
    fix: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "set a knob of the recipe for all trials, such as mixup=0.2 or optimizer=adamw; "
            "may be given several times (docs/guide/recipes.md has them all)",
            "metavar": "NAME=VALUE",
        },
    )

    def __post_init__(self) -> None:
        for name, least in [
            ("image_size", 16),
            ("batch_size", 2),
            ("max_epoch", 1),
            ("threads", 1),
            ("train_limit", 0),
            ("valid_limit", 0),
        ]:
            if getattr(self, name) < least:
                raise BadInput(
                    f"setting {name} must be {least} or more, but got {getattr(self, name)}"
                )
        if self.weights is not None and not self.pretrained:
            raise BadInput(
                f"setting weights is {self.weights!r}, but pretrained is false: a network starts "
                "from a file's weights or from random ones"
            )
