"""Other tools' names and values as canonical columns."""

import math

import pytest

from foretune.errors import BadInput
from foretune.history.columns import COLUMNS
from foretune.history.trainers import DEFAULTS, trainer_of, with_defaults
from foretune.history.vocabulary import (
    PAIRS,
    canonical,
    checked_column,
    extra_name,
    flag,
    normal,
    number,
    parse,
    sequence,
    switches,
)


def test_no_name_means_two_columns_and_every_column_is_whole():
    owners: dict[str, set[str]] = {}
    for column in COLUMNS.values():
        for alias in column.aliases:
            owners.setdefault(alias, set()).add(column.name)
            assert alias == normal(alias), alias
        assert column.low < column.high and column.about
        if column.kind in ("number", "integer") and column.off is not None:
            assert column.low <= column.off <= column.high
        if column.log:
            assert column.low >= 0
    assert [names for names in owners.values() if len(names) > 1] == []
    assert not set(owners) & set(PAIRS) and not set(owners) & set(switches())
    assert 30 <= len(COLUMNS) <= 50


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("lr", "learning_rate"),
        ("lr0", "learning_rate"),
        ("Learning-Rate", "learning_rate"),
        ("optim.lr", "learning_rate"),
        ("config/opt_lr", "learning_rate"),
        ("hparams/optimizer/lr", "learning_rate"),
        ("per_device_train_batch_size", "batch_size"),
        ("num_train_epochs", "epochs"),
        ("maxEpochs", "epochs"),
        ("model_name_or_path", "network"),
        ("imgsz", "image_size"),
        ("smoothing", "label_smoothing"),
        ("reprob", "random_erasing"),
        ("Optimizer", "optimizer"),
    ],
)
def test_names_of_other_tools(name: str, column: str):
    assert canonical(name) == (column, 1.0)


@pytest.mark.parametrize("name", ["critic_lr", "lr_pg0", "final", "augment_lr_x", "disc.lr2", ""])
def test_a_name_that_only_resembles_one_is_not_known(name: str):
    assert canonical(name) is None


def test_values_come_in_the_unit_of_the_column():
    name, factor = canonical("params_m") or ("", 0.0)
    assert parse(name, "2.25", factor) == pytest.approx(2.25e6)
    assert parse("learning_rate", "5e-05") == 5e-5
    assert parse("image_size", "[3, 224, 224]") == 224
    assert parse("clip_grad", None) is None and parse("batch_size", "") is None
    assert parse("mixup", False) == 0.0  # off
    assert parse("pretrained", "imagenet") is True and parse("pretrained", "False") is False


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("learning_rate", 30, "outside"),
        ("learning_rate", "fast", "no number"),
        ("label_smoothing", 1.5, "outside"),
        ("batch_size", 3.5, "whole"),
        ("batch_size", math.inf, "finite"),
        ("learning_rate", True, "no number"),
    ],
)
def test_what_is_not_plausible_is_refused(column: str, value: object, word: str):
    with pytest.raises(ValueError, match=word):
        parse(column, value)


@pytest.mark.parametrize(
    ("column", "value", "same"),
    [
        ("optimizer", "Adam", "adam"),
        ("optimizer", "torch.optim.AdamW", "adamw"),
        ("optimizer", "adamw_torch", "adamw"),
        ("scheduler", "CosineAnnealingLR", "cosine"),
        ("scheduler", "StepLR", "step"),
        ("network", "yolo11n-cls.pt", "yolo11n-cls"),
        ("network", "/home/me/weights/ResNet50.pth", "resnet50"),
        ("network", "google/vit-base-patch16-224", "google/vit-base-patch16-224"),
        ("augmentation", "None", "none"),
    ],
)
def test_categories_have_one_spelling(column: str, value: str, same: str):
    assert parse(column, value) == same


def test_small_readings():
    assert sequence("(0.9, 0.999)") == [0.9, 0.999] == sequence([0.9, 0.999])
    assert sequence("0.9") is None and sequence("[a, b]") is None
    assert number("2026_04") is None and number("1e3") == 1000.0
    assert flag("off") is False and flag("") is None
    assert extra_name("Pruning Sparsity") == "extra.pruning_sparsity"


def test_a_misspelled_column_is_told_with_near_names():
    assert checked_column("extra.folds", "here") == "extra.folds"
    with pytest.raises(BadInput, match="learning_rate"):
        checked_column("learning_rat", "mapping.yaml")


def test_trainers_defaults_are_values_of_their_columns():
    for defaults in DEFAULTS.values():
        for column, value in defaults.items():
            assert parse(column, value) == value or isinstance(value, bool)


def test_defaults_fill_what_a_run_does_not_say_and_mark_it():
    import pandas as pd

    runs = pd.DataFrame({"trainer": ["timm", "timm", ""], "momentum": [0.5, math.nan, math.nan]})
    filled, asked = with_defaults(runs)
    assert filled["momentum"].tolist()[:2] == [0.5, 0.9] and math.isnan(filled["momentum"][2])
    assert asked["momentum"].tolist() == [False, True, False]
    assert filled["label_smoothing"].tolist()[:2] == [0.1, 0.1]
    assert runs.columns.tolist() == ["trainer", "momentum"]  # what was given stays as it was


def test_a_trainer_is_known_by_its_arguments():
    assert trainer_of(["reprob", "smoothing", "sched", "opt"]) == "timm"
    assert trainer_of(["lr_scheduler_type", "max_grad_norm", "num_train_epochs"]) == "huggingface"
    assert trainer_of(["lr", "epochs", "optimizer"]) == ""
