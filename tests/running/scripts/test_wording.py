"""A configuration in the words of known trainers: only flags that they have."""

import pytest

from foretune.running.scripts.template import spelled
from foretune.running.scripts.wording import RECIPE, WORDINGS, frozen, network_of, said

# as their sources had them in August 2026: train.py's parser, TrainingArguments with the arguments
# of run_image_classification.py, cfg/default.yaml
FLAGS = {
    "timm": {
        "--train-split", "--val-split", "--model", "--pretrained", "--num-classes", "--img-size",
        "--batch-size", "--opt", "--momentum", "--weight-decay", "--clip-grad", "--layer-decay",
        "--sched", "--lr", "--warmup-epochs", "--epochs", "--cooldown-epochs", "--no-aug", "--scale",
        "--ratio", "--hflip", "--color-jitter", "--reprob", "--mixup", "--cutmix", "--smoothing",
        "--drop", "--drop-path", "--seed", "--output", "--experiment", "--resume", "--min-lr", "--decay-epochs", "--decay-rate",
    },
    "huggingface": {
        "--train_dir", "--validation_dir", "--model_name_or_path", "--ignore_mismatched_sizes",
        "--remove_unused_columns", "--weight_decay", "--lr_scheduler_type", "--max_grad_norm",
        "--label_smoothing_factor", "--per_device_train_batch_size", "--learning_rate", "--optim",
        "--num_train_epochs", "--output_dir", "--eval_strategy", "--save_strategy",
        "--save_total_limit", "--seed", "--do_train", "--do_eval",
    },
    "lightning": {
        "--model.learning_rate", "--model.weight_decay", "--trainer.gradient_clip_val",
        "--trainer.max_epochs", "--trainer.default_root_dir", "--trainer.logger",
        "--trainer.logger.save_dir", "--trainer.logger.flush_logs_every_n_steps",
        "--seed_everything",
    },
    "ultralytics": {
        "data", "model", "batch", "nbs", "cos_lr", "lrf", "lr0", "optimizer", "weight_decay",
        "momentum", "warmup_epochs", "dropout", "imgsz", "epochs", "project", "name", "exist_ok",
        "seed", "freeze", "mixup", "cutmix", "auto_augment", "erasing", "fliplr", "scale", "hsv_h", "hsv_s", "hsv_v",
    },
}  # fmt: skip
OWN = {"epochs": 5, "seed": 0, "trial_folder": "runs/a-1", "images": "my photos", "classes": 3}
CONFIG = {
    "learning_rate": 1e-3,
    "optimizer": "sgd",
    "augmentation": "none",
    "finetune": "head",
    "network": "yolo11n-cls.pt",
    "batch_size": 32,
}


def words_of(trainer, **config):
    begin = WORDINGS[trainer].begin.replace("{data}", WORDINGS[trainer].data.whole)
    return said(trainer, {**RECIPE, **CONFIG, **config}, begin, **OWN)


@pytest.mark.parametrize("trainer", list(WORDINGS))
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "adamw"])
@pytest.mark.parametrize("finetune", ["head", "last_blocks", "most", "all"])
@pytest.mark.parametrize("augmentation", ["none", "crop_flip_colour"])
def test_only_flags_that_the_trainer_has(trainer, optimizer, finetune, augmentation):
    found = words_of(trainer, optimizer=optimizer, finetune=finetune, augmentation=augmentation)
    flags = {
        word.partition("=")[0]
        for word in found.words
        if word.startswith("--") or (trainer == "ultralytics" and "=" in word)
    }
    assert flags <= FLAGS[trainer]
    assert len([w for w in found.words if w.startswith("--")]) == len(
        {w for w in found.words if w.startswith("--")}
    )
    # what is not in the line is named: nothing is lost between the two
    named = [text.partition("=")[0] for text in (*found.unsaid, *found.nearly)]
    line = " ".join(found.words)
    assert (spelled(1e-3) in line and "5" in found.words) or "epochs=5" in found.words
    for name, marks in {
        "optimizer": ("--opt", "--optim", "optimizer="),
        "finetune": ("freeze=",) if finetune != "all" or trainer == "lightning" else ("",),
        "augmentation": ("--no-aug", "--scale", "auto_augment="),
    }.items():
        assert name in named or any(mark in line for mark in marks)


def test_values_become_the_trainers_own():
    assert "momentum" in words_of("timm").words  # timm's sgd is Nesterov's
    assert "adamw_torch" in words_of("huggingface", optimizer="adam").words
    assert words_of("huggingface").unsaid[-1:] != () and any(
        "SGD has no momentum" in text for text in words_of("huggingface").unsaid
    )
    assert "optimizer=SGD" in words_of("ultralytics").words
    assert "data=my photos" in words_of("ultralytics").words  # one argument, blanks and all


@pytest.mark.parametrize(
    ("network", "finetune", "expected"),
    [
        ("yolo11n-cls.pt", "head", "freeze=10"),
        ("yolov8s-cls.pt", "head", "freeze=9"),
        ("weights/yolo11n-cls.pt", "most", "freeze=2"),
        ("yolo11n-cls.pt", 0.4, None),
        ("yolo26n-cls.pt", "head", None),
    ],
)
def test_layers_to_freeze_are_told_for_networks_that_are_known(network, finetune, expected):
    assert frozen(network, finetune) == expected


def test_a_network_without_a_name_there_is_none():
    assert network_of("timm", "mobilenet_v2") == "mobilenetv2_100"
    assert network_of("timm", "shufflenet_v2_x1") is None
    assert network_of("ultralytics", "shufflenet_v2_x1") == "yolo11n-cls.pt"
