"""Whether the trainer still gives the numbers that a meta-dataset holds.

Of each optimizer one cell that trains most of the network and one that trains the head alone are
trained again, for `EPOCHS` epochs, and compared with their curves in the table. On a machine of the
kind that made the table (`foretune.running.collection.kind_of_machine`) and from the same images,
all figures must be equal, bit for bit. Elsewhere rounding differs. A head learns on features that
do not change, which amplifies nothing: its losses must be equal within `HEAD_TOLERANCE`. A network
that is trained amplifies rounding, at the very most to what another seed gives: there the mean
difference of the metric must be below `TOLERANCE`.

`HEAD_TOLERANCE` stands between what a processor does and what a change does: losses that an AMD
EPYC (AVX2) wrote came out on an Intel Xeon (AVX-512) with differences up to 5e-7 (6 cells), while
an SGD momentum of 0.8 for 0.9 moves the training loss by 0.03 to 0.13.

`TOLERANCE` is derived from the 96 cells (4 tasks x 24 configurations) that were trained with two
seeds, `light` and `data/meta/light_seed1`: the value that the mean difference of three of them,
drawn at random, exceeds once in a thousand draws. A test computes it again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretune.running.collection import COLUMNS, METRIC, Collection, kind_of_machine, order
from foretune.space.catalogue import DEPTHS, OPTIMIZERS

EPOCHS = 2
TOLERANCE = 0.16  # mean absolute difference of the metric
HEAD_TOLERANCE = 1e-3  # largest difference of a loss
LOSSES = ("valid_loss", "train_loss")
FIGURES = [column for column in COLUMNS if column != "seconds"]


@dataclass(frozen=True)
class Cell:
    """A trial of the table: task and place of its configuration in the pool."""

    task: str
    config_id: int


def cells(collection: Collection, tasks: Sequence[str], depth: str = DEPTHS[-1]) -> list[Cell]:
    """For each optimizer the first cell, in the order of collection, that is finished and trains
    the network to that `depth`, each on another one of `tasks` where there are as many.
    """
    done, out = collection.finished(), []
    for place, optimizer in enumerate(OPTIMIZERS):
        first = place * (len(tasks) - 1) // max(1, len(OPTIMIZERS) - 1)
        fitting = [
            Cell(task, i)
            for task in (*tasks[first:], *tasks[:first])
            for i in order(collection.pool)
            if collection.pool[i].get("optimizer") == optimizer
            and collection.pool[i].get("finetune") == depth
            and (task, i) in done
        ]
        out += fitting[:1]
    return out


def trained_again(collection: Collection, cell: Cell, file: Path) -> np.ndarray:
    """The figures of the cell's first epochs, trained now, (EPOCHS, figures) float32; NaN from
    where it diverged.
    """
    from foretune.tasks.task import Task
    from foretune.training.trial import Diverged, train

    config, settings = collection.pool[cell.config_id], collection.settings_of(cell.task)
    try:
        rows = train(Task.load(file), config, 0, EPOCHS, settings=settings, seed=collection.seed)
    except Diverged as failure:
        rows = failure.rows
    out = np.full((EPOCHS, len(FIGURES)), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        out[place] = [row[name] for name in FIGURES]
    return out


def kept(collection: Collection, cell: Cell) -> np.ndarray:
    """The same figures as the table has them."""
    table = collection.table
    mine = table[
        (table["task"] == cell.task)
        & (table["config_id"] == cell.config_id)
        & (table["seed"] == collection.seed)
    ]
    first = mine.set_index("epoch")[FIGURES].reindex(range(1, EPOCHS + 1))
    return first.to_numpy(dtype=np.float32)


def check(
    collection: Collection,
    files: Mapping[str, Path],
    changed_images: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> str:
    """Train the cells again and compare; what is wrong, in words, or nothing.

    `files` are the tasks' files by name; tasks whose images decode to other pixels here than where
    the table was made are `changed_images`, of which no cell can be equal bit for bit.
    """
    chosen = cells(collection, list(files))
    heads = cells(collection, [task for task in files if task not in changed_images], DEPTHS[0])
    if not chosen + heads:
        return ""
    here, kinds = kind_of_machine(collection.settings), collection.about["kinds"]
    exact = kinds == [here] and not {cell.task for cell in chosen} & set(changed_images)
    told = ", ".join(f"{c.task}/{c.config_id}" for c in heads + chosen)
    pairs = []
    for cell in heads + chosen:
        old, new = kept(collection, cell), trained_again(collection, cell, files[cell.task])
        if exact and (found := first_difference(old, new)):
            reason = "this machine is of the kind that made them, so they must be equal"
        elif cell in heads and (found := first_difference(old, new, LOSSES, HEAD_TOLERANCE)):
            reason = f"where the head alone learns, rounding makes less than {HEAD_TOLERANCE:g}"
        else:
            pairs += [(old, new)] if cell in chosen else []
            continue
        what = f"configuration {cell.config_id} ({collection.pool[cell.config_id]})"
        return _wrong(collection, f"{cell.task}, {what}: {found}; {reason}")
    if exact:
        say(f"the trainer gives what the table holds, bit for bit ({told}, {EPOCHS} epochs)")
        return ""
    mean = mean_difference(pairs) if pairs else 0.0
    if not mean < TOLERANCE:
        return _wrong(
            collection,
            f"over the first {EPOCHS} epochs of {told} {METRIC} differs by {mean:.3f} on average, "
            f"more than the {TOLERANCE} that two seeds differ by at most",
        )
    say(
        f"the trainer gives what the table holds, losses within {HEAD_TOLERANCE:g} where the head "
        f"alone learns, {METRIC} within the spread between seeds elsewhere ({told}, {EPOCHS} epochs: "
        f"it differs by {mean:.3f} on average, {TOLERANCE} is allowed); bit for bit it can be "
        f"compared only on a machine of the kind that made the table: {kinds or 'unknown'}"
    )
    return ""


def first_difference(
    old: np.ndarray,
    new: np.ndarray,
    figures: Sequence[str] = FIGURES,
    tolerance: float = 0.0,
) -> str:
    """The first of some figures (epochs, all figures) that differs by more than `tolerance`, in
    words, or nothing; by default of all, bit for bit.
    """
    close = (np.abs(new - old) <= tolerance) | (old == new) | (np.isnan(old) & np.isnan(new))
    unequal = np.argwhere(~close & np.isin(FIGURES, list(figures)))
    if not len(unequal):
        return ""
    epoch, figure = unequal[0]
    return (
        f"{FIGURES[figure]} of epoch {epoch + 1} is {new[epoch, figure]:.9g}, in the table "
        f"{old[epoch, figure]:.9g}"
    )


def mean_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean absolute difference of the metric over cells and epochs; an epoch that diverged in one
    of the two only counts as 1.
    """
    column = FIGURES.index(METRIC)
    gaps = [np.abs(old[:, column] - new[:, column]) for old, new in pairs]
    both = [np.isnan(old[:, column]) & np.isnan(new[:, column]) for old, new in pairs]
    gap = np.where(np.concatenate(both), 0.0, np.concatenate(gaps))
    return float(np.where(np.isnan(gap), 1.0, gap).mean())


def _wrong(collection: Collection, what: str) -> str:
    return (
        f"the trainer no longer gives the curves of {collection.folder}: {what}. If the change is "
        "meant, raise TRAINING_VERSION in foretune/training/recipe.py and collect into another "
        "meta_dataset.folder: curves of two trainers cannot be mixed. If it is not, undo it"
    )
