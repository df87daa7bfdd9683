"""The knobs of the trainer's recipe: names, types, what values can be meant, and how they are read.

A knob is a hyperparameter where the space has it and a setting where `Settings.fix` has it (`--fix
mixup=0.2`). Nothing is imported here that takes time; docs/guide/recipes.md has the same list with
more words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretune.errors import BadInput, near
from foretune.space.parameters import Parameter, coerce, plain

# by torch.optim or by ourselves; weight decay acts on every tensor, as the papers' did
OPTIMIZERS = ("sgd", "adam", "adagrad", "rmsprop", "adabound", "adas", "sls")
# by timm.optim.create_optimizer_v2; no weight decay on biases, norms and what the network excepts
TIMM_OPTIMIZERS = (
    "adamw", "nadam", "nadamw", "radamw", "adopt", "lamb", "lion", "adan", "adamp", "sgdw", "sgdp",
    "adabelief", "laprop", "novograd",
)  # fmt: skip
SELF_TUNING = ("adas", "sls")  # they set the rate of each layer, or of each step, themselves
WITH_MOMENTUM = ("sgd", "rmsprop", "sgdw", "sgdp")
SCHEDULERS = (
    "cosine", "step", "constant", "none", "StepLR", "ExponentialLR", "CyclicLR", "CAWR",
)  # fmt: skip
DEPTHS = ("head", "last_blocks", "most", "all")  # of fine-tuning, beside a share and LoRA
LORA = "lora"
POLICIES = (
    "none", "crop", "flip", "colour", "crop_flip", "crop_colour", "flip_colour", "crop_flip_colour",
)  # fmt: skip
AUTO_AUGMENT = ("none", "randaugment", "trivialaugment")


@dataclass(frozen=True)
class Knob:
    """A knob: values of `kind` from `low` to `high` (`beyond`: `high` itself is none), or one of
    `choices`; what it is `off` at, None where it has no such value.

    `of` names another knob and the values of it under which this one means anything.
    """

    name: str
    kind: type
    help: str
    off: Any = None
    low: float = -math.inf
    high: float = math.inf
    beyond: bool = False
    choices: tuple[str, ...] = ()
    of: tuple[str, tuple[str, ...]] | None = None

    def taken(self, value: Any, where: str = "") -> Any:
        """`value` in the knob's type. Raises `BadInput`, with what would be right."""
        where = where or f"{self.name}={plain(value)!r}"
        given = coerce(self.kind, value, where, f" ({self.right})")
        if self.choices and given not in self.choices:
            raise BadInput(f"{where} is not known{near(given, self.choices)}: {self.right}")
        if isinstance(given, (int, float)) and not self._within(given):
            raise BadInput(f"{where} must be {self.right}")
        return given

    def _within(self, value: float) -> bool:
        return self.low <= value < self.high if self.beyond else self.low <= value <= self.high

    @property
    def right(self) -> str:
        """What would be right, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is bool:
            return "true or false"
        what = "a whole number" if self.kind is int else "a number"
        if self.kind is str or (math.isinf(self.low) and math.isinf(self.high)):
            return "a text" if self.kind is str else what
        if math.isinf(self.high):
            return f"{what}, {self.low:g} or more"
        return f"{what} from {self.low:g} to {'below ' * self.beyond}{self.high:g}"


class _Depth(Knob):
    """The depth of fine-tuning: a word, or the share of the layers that is trained."""

    def taken(self, value: Any, where: str = "") -> Any:
        given, where = plain(value), where or f"{self.name}={plain(value)!r}"
        if isinstance(given, str):
            try:
                given = float(given)
            except ValueError:
                return super().taken(given, where)
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
            raise BadInput(f"{where} must be {self.right}")
        return float(given)

    @property
    def right(self) -> str:
        return f"one of {', '.join(self.choices)}, or the share of layers to train from 0 to 1"


KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        Knob("network", str, "any name of timm or torchvision"),
        Knob("learning_rate", float, "of the optimizer, at its highest", low=0.0),
        Knob("optimizer", str, "who makes the step", choices=(*OPTIMIZERS, *TIMM_OPTIMIZERS)),
        Knob("weight_decay", float, "pulls weights to zero", off=0.0, low=0.0),
        Knob("momentum", float, "of the optimizer", low=0.0, high=1.0, beyond=True,
             of=("optimizer", WITH_MOMENTUM)),
        Knob("nesterov", bool, "Nesterov's momentum", off=False, of=("optimizer", ("sgd",))),
        Knob("layer_decay", float, "rate of a layer over that of the next one", off=1.0, low=1e-3,
             high=1.0),
        Knob("clip_grad", float, "largest norm of a gradient; 0: any", off=0.0, low=0.0),
        Knob("batch_size", int, "images of a step", low=2),
        Knob("scheduler", str, "how the rate falls", choices=SCHEDULERS),
        Knob("warmup_epochs", int, "epochs in which the rate rises first", off=0, low=0),
        Knob("step_epochs", int, "epochs between the steps of the schedule `step`", low=1,
             of=("scheduler", ("step",))),
        Knob("step_factor", float, "what a step of the schedule `step` multiplies the rate by",
             low=0.0, high=1.0, of=("scheduler", ("step",))),
        _Depth("finetune", str, "how much of the network is trained", choices=(*DEPTHS, LORA)),
        Knob("lora_rank", int, "of LoRA's updates", low=1, of=("finetune", (LORA,))),
        Knob("augmentation", str, "what happens to a training image", choices=POLICIES),
        Knob("auto_augment", str, "a learned policy on top", off="none", choices=AUTO_AUGMENT),
        Knob("magnitude", int, "of RandAugment", low=0, high=30,
             of=("auto_augment", ("randaugment",))),
        Knob("random_erasing", float, "probability that a rectangle is erased", off=0.0, low=0.0,
             high=1.0),
        Knob("mixup", float, "alpha: images of a batch are blended, and their labels", off=0.0,
             low=0.0),
        Knob("cutmix", float, "alpha: a rectangle comes from another image", off=0.0, low=0.0),
        Knob("label_smoothing", float, "share of a label that goes to all classes", off=0.0,
             low=0.0, high=1.0, beyond=True),
        Knob("dropout", float, "before the classifier", low=0.0, high=1.0, beyond=True),
        Knob("drop_path", float, "stochastic depth", off=0.0, low=0.0, high=1.0, beyond=True),
        Knob("ema", float, "decay of the averaged weights that are evaluated; 0: none", off=0.0,
             low=0.0, high=1.0, beyond=True),
        Knob("class_weights", bool, "the loss counts every class alike", off=False),
        Knob("balanced_sampling", bool, "batches hold every class alike", off=False),
    )
}  # fmt: skip


def knob(name: str) -> Knob:
    """The knob of that name. Raises `BadInput` with near names for one that is none."""
    if name not in KNOBS:
        raise BadInput(
            f"the trainer does not know {name!r}{near(name, KNOBS)}; it knows {', '.join(KNOBS)}"
        )
    return KNOBS[name]


def check_parameter(parameter: Parameter) -> None:
    """Raise `BadInput` where a hyperparameter of a space has a value that its knob cannot take."""
    wanted = knob(parameter.name)
    if not parameter.numeric:
        for option in parameter.options:
            wanted.taken(option, f"hyperparameter {parameter.name}: {plain(option)!r}")
        return
    for end, value in (("low", parameter.lower), ("high", parameter.upper)):
        wanted.taken(value, f"hyperparameter {parameter.name}: {end} {value:g}")
    if wanted.kind is int and not parameter.integer:
        raise BadInput(
            f"hyperparameter {parameter.name} must be {wanted.right}: give its bounds as whole "
            f"numbers, not {parameter.lower} to {parameter.upper}"
        )


def meant(values: Mapping[str, Any], name: str) -> bool:
    """Whether the knob `name` means anything beside the other `values`."""
    return (of := KNOBS[name].of) is None or values.get(of[0]) in of[1]
