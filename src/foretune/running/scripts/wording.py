"""How known trainers are told what a run of foretune's history was trained with.

The flags are those of timm's train.py (August 2026), run_image_classification.py of transformers,
Ultralytics' default.yaml and LightningCLI. A trainer that lacks a flag, or means something else by
it, says so here: what it cannot be told is named to whoever follows the advice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretune.running.scripts.template import Template
from foretune.running.scripts.trainers import TRAINERS

# what foretune's own trainer does where a configuration says nothing
RECIPE: Mapping[str, Any] = {
    "weight_decay": 0.0,
    "scheduler": "cosine",
    "warmup_epochs": 0,
    "label_smoothing": 0.0,
    "clip_grad": 0.0,
}


@dataclass(frozen=True)
class Data:
    """How images are handed over: of a folder with parts (`{train}` and `{valid}` are their names),
    and of one without, with what is to be said then.
    """

    parted: str
    whole: str
    note: str = ""


@dataclass(frozen=True)
class Wording:
    """`begin` starts the command, with `{network}` and `{classes}`; `flags` add to those of the
    trainer's preset. `values`: our value -> theirs, all that there are; `arguments`: our value ->
    arguments, empty where it is so anyway; `nearly`: the same, with what is different. `why` says
    for a name why it cannot be said otherwise. `networks` are theirs by our name, `network` the one
    for all others; `like` is the network that costs about the same.
    """

    begin: str
    data: Data
    network: str | None = None
    networks: Mapping[str, str] = field(default_factory=dict)
    like: str | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    nearly: Mapping[str, Mapping[Any, tuple[str, str]]] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    about: tuple[str, ...] = ()  # to be known before the first run


@dataclass(frozen=True)
class Said:
    """A configuration in a trainer's words: `words` of the command line, what it could not be told
    (`unsaid`), and what it means a little otherwise (`nearly`).
    """

    words: tuple[str, ...]
    unsaid: tuple[str, ...]
    nearly: tuple[str, ...]


WORDINGS: dict[str, Wording] = {
    "timm": Wording(
        begin="python train.py {data} --model {network} --pretrained --num-classes {classes}",
        data=Data(
            "{images} --train-split {train} --val-split {valid}",
            "{images}",
            "train.py wants the folders train and validation in {images}, with class folders in "
            "each",
        ),
        networks={
            "mobilenet_v2": "mobilenetv2_100",
            "efficientnet_lite0": "efficientnet_lite0",
        },
        flags={
            "scheduler": "--sched {scheduler}",
            "warmup_epochs": "--warmup-epochs {warmup_epochs}",
            "momentum": "--momentum {momentum}",
            "dropout": "--drop {dropout}",
            "random_erasing": "--reprob {random_erasing}",
            "clip_grad": "--clip-grad {clip_grad}",
            "min_learning_rate": "--min-lr {min_learning_rate}",
            "decay_epochs": "--decay-epochs {decay_epochs}",
            "decay_rate": "--decay-rate {decay_rate}",
            "colour_jitter": "--color-jitter {colour_jitter}",
            "flip": "--hflip {flip}",
            "image_size": "--img-size {image_size}",
        },
        values={
            # timm's sgd has Nesterov's momentum
            "optimizer": {
                "sgd": "momentum",
                **{name: name for name in ("adam", "adagrad", "adamw", "rmsprop", "lamb", "lion")},
            },
            "scheduler": {"cosine": "cosine", "step": "step"},
        },
        arguments={
            "clip_grad": {0.0: ""},
            "augmentation": {
                "none": "--no-aug",
                "crop_flip_colour": "--scale 0.49 1 --ratio 1 1 --hflip 0.5 --color-jitter 0.4",
                "crop_flip": "--scale 0.49 1 --ratio 1 1 --hflip 0.5 --color-jitter 0",
                "flip": "--scale 1 1 --ratio 1 1 --hflip 0.5 --color-jitter 0",
            },
            "finetune": {"all": ""},
        },
        nearly={"finetune": {"most": ("", "finetune=most: train.py trains the first layers too")}},
        why={"finetune": "train.py has no flag that freezes layers"},
    ),
    "huggingface": Wording(
        begin=(
            "python run_image_classification.py {data} --model_name_or_path {network} "
            "--ignore_mismatched_sizes True --remove_unused_columns False"
        ),
        data=Data(
            "--train_dir {images}/{train} --validation_dir {images}/{valid}",
            "--train_dir {images}",
            "the script takes 15 % of {images} for validation itself, other ones than foretune",
        ),
        networks={"mobilenet_v2": "google/mobilenet_v2_1.0_224"},
        flags={
            "label_smoothing": "--label_smoothing_factor {label_smoothing}",
            "clip_grad": "--max_grad_norm {clip_grad}",
        },
        values={
            # AdamW without weight decay is Adam
            "optimizer": {"adam": "adamw_torch", "adamw": "adamw_torch", "adagrad": "adagrad"},
            "scheduler": {"cosine": "cosine", "linear": "linear", "constant": "constant"},
        },
        arguments={"warmup_epochs": {0: ""}, "finetune": {"all": ""}},
        nearly={
            "finetune": {"most": ("", "finetune=most: the script trains the first layers too")},
            "augmentation": {
                "crop_flip_colour": (
                    "",
                    "augmentation=crop_flip_colour: the script crops harder, flips, and leaves "
                    "colours alone",
                ),
                "crop_flip": ("", "augmentation=crop_flip: the script crops harder"),
            },
        },
        why={
            "finetune": "the script has no flag that freezes layers",
            "augmentation": "the script always crops and flips",
            "optimizer": "its SGD has no momentum",
            "image_size": "the network's own is taken",
        },
    ),
    "lightning": Wording(
        begin="python main.py fit",
        data=Data("", "", "your DataModule reads {images}: what it is told is not known here"),
        flags={
            "learning_rate": "--model.learning_rate {learning_rate}",
            "weight_decay": "--model.weight_decay {weight_decay}",
            "clip_grad": "--trainer.gradient_clip_val {clip_grad}",
        },
        arguments={"warmup_epochs": {0: ""}, "label_smoothing": {0.0: ""}},
        why=dict.fromkeys(
            ("optimizer", "augmentation", "finetune", "batch_size", "scheduler", "image_size"),
            "of your own modules",
        ),
        about=("learning_rate and weight_decay are arguments of your LightningModule",),
    ),
    "ultralytics": Wording(
        begin=("yolo classify train {data} model={network} batch={batch_size} nbs={batch_size}"),
        data=Data(
            "data={images}",
            "data={images}",
            "a folder without train and val is split by Ultralytics itself, other than by foretune",
        ),
        network="yolo11n-cls.pt",
        like="mobilenet_v2",
        flags={
            "optimizer": "optimizer={optimizer}",
            "warmup_epochs": "warmup_epochs={warmup_epochs}",
            "momentum": "momentum={momentum}",
            "dropout": "dropout={dropout}",
            "random_erasing": "erasing={random_erasing}",
            "mixup": "mixup={mixup}",
            "cutmix": "cutmix={cutmix}",
            "flip": "fliplr={flip}",
            "image_size": "imgsz={image_size}",
        },
        values={
            "optimizer": {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSProp"}
        },
        arguments={
            "scheduler": {"cosine": "cos_lr=True lrf=0.0", "linear": ""},
            "clip_grad": {0.0: ""},
            "label_smoothing": {0.0: ""},
            "augmentation": {
                "randaugment": "auto_augment=randaugment",
                "none": "auto_augment=none erasing=0.0 fliplr=0.0 scale=0.0 "
                "hsv_h=0.0 hsv_s=0.0 hsv_v=0.0",
                "crop_flip_colour": "auto_augment=none erasing=0.0 fliplr=0.5 scale=0.51 "
                "hsv_h=0.0 hsv_s=0.4 hsv_v=0.4",
            },
            "finetune": {"all": ""},
        },
        why={
            "optimizer": "Ultralytics has no such optimizer",
            "finetune": "how many layers this network has is not known",
        },
    ),
}
# networks of Ultralytics by the beginning of their names -> layers, the classifier among them
LAYERS = {"yolo11": 11, "yolov8": 10}
FROZEN = {"head": 1.0, "last_blocks": 2 / 3, "most": 1 / 4}  # share of the layers before it


def frozen(network: str, finetune: Any) -> str | None:
    """Ultralytics' `freeze` for a depth of fine-tuning; None for a network that is not known."""
    layers = next((n for name, n in LAYERS.items() if Path(network).name.startswith(name)), None)
    if layers is None or finetune not in FROZEN:
        return None
    return f"freeze={round(FROZEN[finetune] * (layers - 1))}"


def network_of(trainer: str, ours: str | None) -> str | None:
    """What the trainer calls the network of our history; its usual one where it has none such."""
    wording = WORDINGS[trainer]
    return wording.networks.get(ours or "") or wording.network


def said(
    trainer: str,
    values: Mapping[str, Any],
    begin: str,
    verbatim: Collection[str] = (),
    **own: Any,
) -> Said:
    """`values` by our names as a command line of `trainer` that begins with `begin`; `own` are the
    values of foretune's own placeholders: `epochs`, `seed`, `trial_folder`. Of the names in
    `verbatim` the values are the trainer's own already.
    """
    wording, preset = WORDINGS[trainer], TRAINERS[trainer]
    flags = {**preset.flags, **wording.flags}
    filling = dict(own)
    words, named, unsaid, nearly = [begin], [], [], []
    for name, value in values.items():
        if f"{{{name}}}" in begin:
            filling[name] = value
        elif name == "finetune" and trainer == "ultralytics" and value != "all":
            freeze = frozen(str(values.get("network", "")), value)
            words += [freeze] if freeze else []
            unsaid += [] if freeze else [_cannot(wording, name, value)]
        elif name in wording.arguments and value in wording.arguments[name]:
            words.append(wording.arguments[name][value])
        elif value in wording.nearly.get(name, {}):
            argument, different = wording.nearly[name][value]
            words.append(argument)
            nearly.append(different)
        elif name in flags and (name in verbatim or name not in wording.values):
            named.append(name)
            filling[name] = value
        elif name in flags and value in wording.values[name]:
            named.append(name)
            filling[name] = wording.values[name][value]
        else:
            unsaid.append(_cannot(wording, name, value))
    text = " ".join(words)
    for name in named:
        text += f" {flags[name]}"
    text = preset.completed(text, [])
    return Said(tuple(Template(text).filled(filling)), tuple(unsaid), tuple(nearly))


def _cannot(wording: Wording, name: str, value: Any) -> str:
    return f"{name}={value}: {wording.why.get(name, 'there is no flag for it')}"
