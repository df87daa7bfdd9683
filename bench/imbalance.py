"""With rare classes, does macro F1 as the goal find another winner than accuracy?

    python bench/imbalance.py --data DATA [--out data/reports/imbalance.csv]

Five garments of Fashion-MNIST in every part as unlike in number as 1 to 20, t-shirts the most and
shirts the fewest (training 1,000 to 50, validation 500 to 25, test 1,000 to 50). The head of
mobilenet_v2 is trained with each of 30 configurations: five learning rates, AdamW or SGD, and plain
cross-entropy, class weights or balanced sampling. The winner of a metric is the configuration and
epoch that are best in it on the validation images, as in a study; both are measured on the test
images. The error of a difference is a paired bootstrap over test images. Half a minute of one core.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.files import write_atomic
from foretune.tasks.embedded.prepare import prepare
from foretune.tasks.task import Task
from foretune.training.metrics import class_metrics
from foretune.training.settings import Settings
from foretune.training.trial import Trial

TASK, SIZE, MOST = "fashion_tops", 64, 13_000
RATIO = 20  # of the most frequent class to the rarest
LARGEST = (1000, 500, 1000)  # images of the most frequent class in train, valid and test
SETTINGS = Settings(train_limit=0, valid_limit=0)
RATES = (1e-4, 3e-4, 1e-3, 5e-3, 2e-2)
WEIGHTINGS: tuple[dict[str, bool], ...] = (
    {},
    {"class_weights": True},
    {"balanced_sampling": True},
)
GOALS = ("accuracy", "macro_f1")
DRAWS = 1000


def imbalanced(whole: Task) -> Task:
    """A task of the images of `whole`, of class k as many as `RATIO` ** (-k / (classes - 1))."""
    rng = np.random.default_rng(0)
    falling = RATIO ** -(np.arange(whole.num_classes) / (whole.num_classes - 1))
    rows, split = [], []
    for label, share in enumerate(falling):
        of_class = rng.permutation(np.flatnonzero(whole.labels == label))
        counts = [round(most * share) for most in LARGEST]
        rows.append(of_class[: sum(counts)])
        split.append(np.repeat(np.arange(3, dtype=np.uint8), counts))
    chosen = np.concatenate(rows)
    return Task(
        "imbalanced_tops", whole.images[chosen], whole.labels[chosen], whole.class_names,
        np.concatenate(split), whole.source, whole.licence,
    )  # fmt: skip


def configurations() -> list[dict[str, Any]]:
    """The 30 configurations."""
    return [
        {"learning_rate": rate, "optimizer": optimizer, "finetune": "head", **weighting}
        for rate, optimizer, weighting in product(RATES, ("adamw", "sgd"), WEIGHTINGS)
    ]


def curves(task: Task) -> pd.DataFrame:
    """A row for each configuration and epoch, with the validation metrics."""
    rows = []
    for i, config in enumerate(configurations()):
        trial = Trial(task, config, SETTINGS, seed=0)
        rows += [{"config": i, **trial.train_epoch()} for _ in range(SETTINGS.max_epoch)]
    return pd.DataFrame(rows)


def tested(task: Task, config: dict[str, Any], epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the test part, after so many epochs."""
    trial = Trial(task, config, SETTINGS, seed=0)
    for _ in range(epochs):
        trial.train_epoch()
    part = trial.part("test")
    return part.labels.numpy(), trial.logits(part).softmax(1).numpy()


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy and macro F1."""
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return {"accuracy": accuracy, "macro_f1": class_metrics(labels, probabilities)["macro_f1"]}


def compare(task: Task, seen: pd.DataFrame) -> pd.DataFrame:
    """A row for each goal's winner, with its test metrics, and one of their difference's."""
    rows, said = [], {}
    for goal in GOALS:
        best = seen.loc[seen[f"valid_{goal}"].idxmax()]
        config = configurations()[int(best["config"])]
        labels, probabilities = said[goal] = tested(task, config, int(best["epoch"]))
        rare = labels == task.num_classes - 1
        found = float((probabilities.argmax(1)[rare] == labels[rare]).mean())
        rows.append(
            {"goal": goal, "epoch": int(best["epoch"]), "valid_accuracy": best["valid_accuracy"],
             "valid_macro_f1": best["valid_macro_f1"]}
            | {f"test_{name}": value for name, value in scores(labels, probabilities).items()}
            | {"test_recall_of_rarest": found, **config}
        )  # fmt: skip
    rng = np.random.default_rng(0)
    labels, gaps = said["accuracy"][0], []
    for _ in range(DRAWS):
        drawn = rng.integers(0, len(labels), len(labels))
        ours, theirs = (scores(labels[drawn], said[goal][1][drawn]) for goal in reversed(GOALS))
        gaps.append({f"test_{name}": ours[name] - theirs[name] for name in ours})
    error = pd.DataFrame(gaps).std().to_dict()
    return pd.DataFrame([*rows, {"goal": "standard error of the difference", **error}])


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder for prepared images")
    parser.add_argument("--out", type=Path, default=Path("data/reports/imbalance.csv"))
    given = parser.parse_args()
    task = imbalanced(Task.load(prepare(TASK, given.data, SIZE, print, most=MOST)))
    table = compare(task, curves(task)).round(4)
    write_atomic(given.out, table.to_csv(index=False))
    print(table.set_index("goal").T.to_string())


if __name__ == "__main__":
    main()
