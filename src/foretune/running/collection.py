"""A meta-dataset as it grows, cell by cell: which trials are there, which are missing, and in which
order they are to come.

A cell is one trial: (task, configuration, seed), trained to its task's last epoch, or diverged.
Configurations come in a fixed shuffled order, the same for all tasks, a few for every task before
the next few: any prefix is a full grid over tasks.
"""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.history.join import learning_settings
from foretune.history.meta_dataset import KEYS, MetaDataset
from foretune.space.space import Config, Space
from foretune.study.outcome import Row
from foretune.training.recipe import TRAINING_VERSION, Settings

METRIC = "valid_accuracy"
COLUMNS = [METRIC, "valid_loss", "valid_top5", "train_loss", "learning_rate", "seconds"]
# one more column where it was asked for: Z_t (`foretune.training.spectral`), NaN where no
# convolution was trained
RANK = "zero_share"
# configurations that every task gets before the next: neighbours share the activations that a
# worker holds
BLOCK = 12
# trials of the head alone cost a fiftieth of others: all are done after 40 % of the way
PACE = {"head": 2.5}
PER_TASK = ("hashes", "sources", "licences")  # of about.json


@dataclass(frozen=True)
class Block:
    """Cells for one worker: some configurations of one task."""

    task: str
    config_ids: tuple[int, ...]


def order(configs: Sequence[Config], seed: int = 0) -> list[int]:
    """The fixed order of configurations: shuffled, the depths of fine-tuning evenly mixed, cheap
    ones at a quicker pace (`PACE`).
    """
    depths: dict[Any, list[int]] = {}
    for i in np.random.default_rng(seed).permutation(len(configs)):
        depths.setdefault(configs[i].get("finetune"), []).append(int(i))
    place = {
        i: (k + 0.5) / len(own) / PACE.get(depth, 1)
        for depth, own in depths.items()
        for k, i in enumerate(own)
    }
    return sorted(place, key=lambda i: (place[i], i))


class Collection:
    """The table as it grows: which cells are there, and a meta-dataset folder that holds them.

    With `rank`, rows hold `zero_share` as well; a folder that has it goes on with it. `epochs` are
    of tasks whose trials end elsewhere than at `settings.max_epoch`.

    Raises:
        BadInput: the folder was collected with other settings, with another pool of configurations,
            or without the rank that is now asked for.
    """

    def __init__(
        self,
        folder: Path | str,
        space: Space,
        pool: Sequence[Config],
        settings: Settings,
        *,
        seed: int = 0,
        source: str = "",
        rank: bool = False,
        epochs: Mapping[str, int] | None = None,
    ):
        self.folder, self.space, self.pool, self.settings, self.seed = (
            Path(folder),
            space,
            list(pool),
            settings,
            seed,
        )
        self.epochs = dict(epochs or {})
        self.about: dict[str, Any] = {
            "name": self.folder.name,
            "source": source or "trained by foretune (flows/meta_dataset.py)",
            "metric": METRIC,
            "goal": "maximize",
            "settings": learning_settings(asdict(settings)),
            "hashes": {},  # of each task's images, labels and split
            "sources": {},  # tasks cut from one source belong on one side of a comparison
            "licences": {},
            "cost": {"epochs": 0, "seconds": 0.0},
            "machines": [],
            "training_version": TRAINING_VERSION,
            "kinds": [],  # of the machines that trained cells: where curves are the same to the bit
        }
        if self.epochs:
            self.about["epochs"] = self.epochs
        self.rank = rank
        self.table = pd.DataFrame(columns=[*KEYS, *self.columns])
        self._fresh: list[Row] = []
        self._torn = False  # the last write stopped between the curves and about.json
        if (self.folder / "about.json").exists():
            self._take_up(MetaDataset.load(self.folder))

    @property
    def columns(self) -> list[str]:
        """What is kept of an epoch."""
        return [*COLUMNS, RANK] if self.rank else COLUMNS

    def _take_up(self, have: MetaDataset) -> None:
        for name, value in self.about["settings"].items():
            if have.about["settings"].get(name) != value:
                raise BadInput(
                    f"{self.folder} was collected with "
                    f"{name}={have.about['settings'].get(name)!r}, but training.{name} is "
                    f"{value!r}: "
                    "curves of different settings cannot be mixed; restore the setting, or "
                    "name another meta_dataset.folder"
                )
        if have.about.get("epochs", {}) != self.epochs:
            raise BadInput(
                f"{self.folder} was collected with the epochs {have.about.get('epochs', {})} of "
                f"its tasks, not {self.epochs}: restore them, or name another folder"
            )
        # tables from before versions were counted are of the first
        if (version := have.about.get("training_version", 1)) != TRAINING_VERSION:
            raise BadInput(
                f"{self.folder} was collected with version {version} of the trainer, but this is "
                f"version {TRAINING_VERSION}: curves of different trainers cannot be mixed; name "
                "another meta_dataset.folder"
            )
        if have.configs != self.pool or have.config_ids != list(range(len(self.pool))):
            raise BadInput(
                f"{self.folder} was collected from another pool of configurations; name "
                "another meta_dataset.folder"
            )
        if self.rank and RANK not in have.table:
            raise BadInput(
                f"{self.folder} was collected without {RANK}: name another folder, or collect "
                "without it"
            )
        self.rank = RANK in have.table
        self.table = have.table
        self._torn = sorted(have.table["task"].unique()) != sorted(have.tasks)
        self.about |= {key: have.about[key] for key in (*PER_TASK, "cost", "machines")}
        self.about["kinds"] = have.about.get("kinds", ["unknown"])

    def settings_of(self, task: str) -> Settings:
        """What the trials of `task` are trained with."""
        return replace(self.settings, max_epoch=self.epochs.get(task, self.settings.max_epoch))

    def finished(self) -> set[tuple[str, int]]:
        """Cells (task, config_id) that are trained to the end, or diverged."""
        table = self.table[self.table["seed"] == self.seed]
        end = [self.epochs.get(str(task), self.settings.max_epoch) for task in table["task"]]
        over = table[(table["epoch"] >= np.array(end, dtype=int)) | table[METRIC].isna()]
        return {(str(t), int(c)) for t, c in zip(over["task"], over["config_id"], strict=True)}

    def missing(self, tasks: Sequence[str], configurations: int) -> list[Block]:
        """Blocks of cells still to train: the first `configurations` of the order, a block of each
        task in turn.
        """
        have, chosen = self.finished(), order(self.pool, seed=0)[:configurations]
        blocks = []
        for start in range(0, len(chosen), BLOCK):
            for task in tasks:
                if lacking := tuple(
                    i for i in chosen[start : start + BLOCK] if (task, i) not in have
                ):
                    blocks.append(Block(task, lacking))
        return blocks

    def describe(self, task: str, content_hash: str, source: str, licence: str) -> str:
        """Note what a task's images are; returns a warning where the curves so far come from images
        with another hash.
        """
        known = self.about["hashes"].get(task, content_hash)
        if known != content_hash:
            return (
                f"{task}: its curves were trained on images {known[:12]}, here they are "
                f"{content_hash[:12]} (decoded or drawn differently)"
            )
        for key, value in zip(PER_TASK, (content_hash, source, licence), strict=True):
            self.about[key][task] = value
        return ""

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows of finished cells."""
        self._fresh += rows

    def save(self) -> None:
        """Write the folder, each file by rename, if there is anything new."""
        if not self._fresh and not self._torn:
            return
        if self._fresh:
            new = pd.DataFrame(self._fresh).reindex(columns=[*KEYS, *self.columns])
            new = new.astype(dict.fromkeys(self.columns, "float32"))
            table = pd.concat([self.table, new], ignore_index=True) if len(self.table) else new
            if (kind := kind_of_machine(self.settings)) not in self.about["kinds"]:
                self.about["kinds"] = [*self.about["kinds"], kind]
            # at once: a Ctrl-C between them would have the next save take the rows a second time
            self.table, self._fresh, self._torn = table, [], True
        self.about["cost"] = {
            "epochs": int(self.table[METRIC].notna().sum()),
            "seconds": round(float(self.table["seconds"].astype("float64").sum()), 1),
        }
        if (machine := describe_machine()) not in self.about["machines"]:
            self.about["machines"] = [*self.about["machines"], machine]
        tasks = sorted(self.table["task"].unique())
        about = self.about | {
            key: {task: self.about[key][task] for task in tasks if task in self.about[key]}
            for key in PER_TASK
        }
        configs = dict(enumerate(self.pool))
        last = max(self.epochs.get(task, self.settings.max_epoch) for task in tasks)
        MetaDataset.build(
            self.space, configs, self.table, **about, max_epoch=last, tasks=tasks
        ).save(self.folder)
        self._torn = False

    def seconds_left(self, blocks: Sequence[Block], workers: int) -> float:
        """Estimate of the time for `blocks`, from the mean seconds of each configuration so far;
        NaN before the first cell.
        """
        if not len(self.table):
            return math.nan
        per_cell = self.table.groupby(["config_id", "task"])["seconds"].sum()
        per_config = per_cell.groupby("config_id").mean()
        groups = pd.Series({i: str(c.get("finetune")) for i, c in enumerate(self.pool)})
        per_group = per_config.groupby(groups.reindex(per_config.index)).mean()
        typical = [
            per_config.get(i, per_group.get(groups[i], per_config.mean()))
            for i in range(len(self.pool))
        ]
        return float(sum(typical[i] for block in blocks for i in block.config_ids) / workers)


def describe_machine() -> str:
    """The kind of machine, without its name."""
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def kind_of_machine(settings: Settings) -> dict[str, Any]:
    """What decides how the trainer rounds, for one version of it: processor and its instructions,
    PyTorch, threads, device.
    """
    import torch

    from foretune.training.trial import device_of

    device = device_of(settings.device)
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": settings.threads,
        "torch": torch.__version__,
    }


def processor(about: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's vendor, family, model and name; as much as the system says."""
    said = about.read_text(encoding="utf-8") if about.is_file() else ""
    rows = (line.partition(":") for line in said.splitlines())
    first: dict[str, str] = {}
    for key, _, value in rows:
        first.setdefault(key.strip(), value.strip())
    names = ("vendor_id", "cpu family", "model", "model name")
    known = [first[name] for name in names if name in first]
    return " / ".join([platform.machine(), *(known or [platform.processor()])])
