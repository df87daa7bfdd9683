"""Which metric runs are judged by, told from names."""

import math

import pytest

from foretune.errors import BadInput
from foretune.stores.metrics import choose, understood
from foretune.stores.record import Record, Source


def source(*series: dict[str, list[float]], **more) -> Source:
    """A source of runs with these metrics, a value an epoch."""
    records = [
        Record(
            f"r{k}", series={n: [(float(e), v) for e, v in enumerate(vs)] for n, vs in s.items()}
        )
        for k, s in enumerate(series)
    ]
    return Source("csv", "made", records, **more)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("eval_top1", "valid_accuracy"),
        ("eval_top5", "valid_top5"),
        ("epoch/val_accuracy", "valid_accuracy"),
        ("Valid-Acc@1", "valid_accuracy"),
        ("metrics/accuracy_top5", "top5"),
        ("validation/epoch_loss", "valid_loss"),
        ("testset-accuracy", "test_accuracy"),
        ("val_macro_f1", "valid_macro_f1"),
        ("val_f1_score", "valid_f1"),
        ("valBalancedAccuracy", "valid_balanced_accuracy"),
        ("test_auroc", "test_auroc"),
        ("train/epoch_accuracy", "train_accuracy"),
    ],
)
def test_names_say_split_and_kind(name: str, meaning: str):
    assert understood(name).canonical == meaning and understood(name).strange == 0


def test_validation_before_test_accuracy_before_loss_and_never_training():
    logs = {"train_accuracy": [0.9], "test_acc": [0.7], "val_loss": [1.0], "val_acc": [0.6]}
    for gone, metric in (("", "val_acc"), ("val_acc", "test_acc"), ("test_acc", "val_loss")):
        logs.pop(gone, None)
        assert choose(source(logs)).metric == metric
    logs.pop("val_loss")
    with pytest.raises(BadInput, match="--metric"):
        choose(source(logs))


def test_a_plain_name_counts_before_one_with_more_words():
    assert choose(source({"pruned_val_accuracy": [0.9], "validation_accuracy": [0.5]})).metric == (
        "validation_accuracy"
    )
    assert choose(source({"knn-5-accuracy": [0.9], "score": [0.5]})).metric == "score"


def test_a_bare_accuracy_beside_a_validation_loss_or_accuracy():
    # Keras: accuracy is of the training images where val_accuracy is there
    assert choose(source({"accuracy": [0.9], "val_accuracy": [0.5]})).metric == "val_accuracy"
    goal = choose(source({"accuracy": [0.9], "loss": [0.5]}))
    assert (goal.metric, goal.split, goal.canonical) == ("accuracy", "unknown", "accuracy")


def test_goals_units_and_what_is_told():
    goal = choose(source({"val_loss": [2.0], "val_error": [0.3]}))
    assert (goal.metric, goal.goal) == ("val_error", "minimize")
    assert choose(source({"val_acc": [0.4, 55.0]})).unit == "percent"
    assert choose(source({"val_acc": [0.4, math.nan]})).unit == "share"
    told = choose(source({"psnr": [30.0]}), metric="psnr", goal="maximize")
    assert (told.metric, told.goal, told.unit, told.canonical) == ("psnr", "maximize", "", "psnr")
    with pytest.raises(BadInput, match="--goal"):
        choose(source({"psnr": [30.0]}), metric="psnr")
    with pytest.raises(BadInput, match="val_acc"):
        choose(source({"val_acc": [0.4]}), metric="val_auc")


def test_the_objective_of_the_tool_counts_unless_it_is_a_loss():
    made = source(
        {"value": [0.5], "val_acc": [0.4]}, objective="value", goals={"value": "minimize"}
    )
    assert (choose(made).metric, choose(made).goal) == ("value", "minimize")
    assert choose(source({"val_loss": [1.0], "val_acc": [0.4]}, objective="val_loss")).metric == (
        "val_acc"
    )
