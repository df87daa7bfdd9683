"""The settings that all trials of a study share.

Nothing is imported here that takes time: the command line makes its options from these fields.
"""

from dataclasses import dataclass, field

from foretune.errors import BadInput


@dataclass(frozen=True)
class Settings:
    """What all trials of a study share. Times and accuracies behind the defaults:
    docs/guide/networks.md.
    """

    network: str = field(
        default="mobilenet_v2",
        metadata={"help": "efficientnet_lite0, mobilenet_v2, shufflenet_v2_x1, resnet18, ..."},
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
