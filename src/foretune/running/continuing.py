"""Edit a study and go on: a new study with another space, more settings or another network, that keeps
what an earlier one has trained.

    earlier = earlier_of(request)            # the study that --continue-from names
    request = earlier.inherited(request)     # what the request leaves open is as it was there
    kept = earlier.kept(space, settings)     # its trials that are trials of the new study too

A trial is kept where nothing that it learned would differ: the same images, settings and seed of
nothing else, and a configuration that lies in the new space, with a hyperparameter that is new there
at the value that it had. All other trials are kept as runs: history of the very images.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.history.join import MACHINE_SETTINGS, PREFIX, learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.running.history import Source, source_of
from foretune.running.objectives.training import Training
from foretune.running.request import Request
from foretune.space.catalogue import PRESETS
from foretune.space.space import Config, Space, config_key
from foretune.study.plan import Step
from foretune.study.study import Study
from foretune.tasks.task import Task
from foretune.training.knobs import KNOBS
from foretune.training.metrics import PART
from foretune.training.recipe import Recipe
from foretune.training.settings import Settings

NOTE = "continued_from"  # of a study's notes
NAMED = ("transfer", "heavy", *PRESETS)  # spaces that need no file
DEFAULTS = {
    **{knob.name: knob.off for knob in KNOBS.values() if knob.off is not None},
    **{f.name: f.default for f in fields(Recipe) if isinstance(f.default, (bool, int, float, str))},
    "augmentation": "none",
    "auto_augment": "none",
}


@dataclass(frozen=True)
class Kept:
    """A trial of an earlier study: its id there, its configuration in the new space, its epochs."""

    config_id: int
    config: Config
    epochs: int


@dataclass(frozen=True)
class Earlier:
    """The study that another one continues: as it stands, and the settings that it had."""

    study: Study
    folder: Path
    settings: Settings

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    def inherited(self, request: Request) -> Request:
        """The request with this study's settings, space and metric where it leaves them open."""
        before = {k: v for k, v in asdict(self.settings).items() if k not in MACHINE_SETTINGS}
        given = {k: v for k, v in request.settings.items() if v is not None}
        fix = {**before["fix"], **(given.get("fix") or {})}
        space, noted, metric = request.space, self.study.plan.notes.space, request.metric
        if space == Request.space:
            space = noted if noted in NAMED else str(self.folder / "space.json")
        if metric == Request.metric:
            metric = self.study.plan.metric.removeprefix(PART)
        settings = {**before, **given, "fix": fix}
        # under the name that it would have by itself, another question is told from this study's
        study = request.study or f"{self.name}-next"
        return replace(request, space=str(space), metric=metric, settings=settings, study=study)

    def kept(self, space: Space, settings: Settings, metric: str) -> list[Kept]:
        """The trials that are trials of a study in `space` with `settings` too, in their order; none
        where the settings make another training of each, or `metric` was not measured. A trial that is better than the best one
        whose network is still there is not: it could not be handed over.
        """
        if _training(settings) != _training(self.settings):
            return []
        out: dict[str, Kept] = {}
        checkpoint = Training(Path(), self.settings, self.folder / "checkpoints").checkpoint
        best = self.study.best
        most = max(
            (best[i] for i in self.study.started if checkpoint(i, best=True).exists()),
            default=float("-inf"),
        )
        for i in self.study.started:
            if not self.study.epoch[i] or best[i] > most or metric not in self.study.rows[i][-1]:
                continue
            if (config := self.in_space(self.study.configs[i], space, settings)) is not None:
                kept = Kept(i, config, int(self.study.epoch[i]))
                out.setdefault(config_key(config), kept)
        return list(out.values())

    def refuse_other_images(self, task: Task, kept: Sequence[Kept]) -> None:
        """Raise `BadInput` where `task` is not of the images that this study was tuned on. At
        another size, where no trial is `kept`, it is enough that the labels and the parts are the
        same.
        """
        if self.study.plan.notes.task_hash == task.hash:
            return
        file = self.folder / "task.npz"
        if not kept and file.is_file():
            before = Task.load(file)
            resized = before.images.shape[1:] != task.images.shape[1:]
            same = before.class_names == task.class_names and resized
            if same and all(
                np.array_equal(getattr(before, what), getattr(task, what))
                for what in ("labels", "split")
            ):
                return
        raise BadInput(
            f"--continue-from {self.name}: it was tuned on other images, labels or parts than these "
            f"of {task.name}; without --continue-from a study of other images learns from it"
        )

    def in_space(self, config: Config, space: Space, settings: Settings) -> Config | None:
        """What `config` trained is, as a configuration of `space`; None where it is none of it."""
        had = {**DEFAULTS, **asdict(self.settings), **self.settings.fix, **config}
        known = {n: had[n] for n in space.names if n in had}
        found = space.typed(space.completed(known, {}))
        with suppress(BadInput):
            space.check(found)
            now = {**DEFAULTS, **asdict(settings), **settings.fix, **found}
            same = all(
                had.get(n) == now.get(n)
                for n in {*config, *found, *self.settings.fix, *settings.fix}
            )
            return found if same else None
        return None

    def source(self, without: "list[Kept] | tuple[Kept, ...]" = ()) -> Source | None:
        """The trials as runs of the past, those aside that are kept as trials; None where there are
        none.
        """
        taken = {one.config_id for one in without}
        if not set(self.study.rows) - taken:
            return None
        meta = self.as_past()
        ids = [i for i in meta.config_ids if i not in taken]
        found = source_of(_only(meta, ids), f"study {self.name}")
        return replace(found, hashes={}, same_task=True) if len(found.table) else None

    def as_past(self) -> MetaDataset:
        """The study as a past task of its own name."""
        meta, task = self.study.to_meta(), PREFIX + self.name
        rows = CurveTable((task,), meta.rows.task, meta.rows.columns)
        about = {
            **meta.about,
            "tasks": [task],
            "settings": learning_settings(asdict(self.settings)),
        }
        return MetaDataset(meta.space, meta.config_ids, meta.configs, rows, about)


def _only(meta: MetaDataset, ids: list[int]) -> MetaDataset:
    """A meta-dataset with these configurations alone."""
    keep = np.isin(meta.rows.columns["config_id"], ids)
    columns = {name: values[keep] for name, values in meta.rows.columns.items()}
    rows = CurveTable(meta.rows.tasks, meta.rows.task[keep], columns)
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    return MetaDataset(meta.space, ids, [configs[i] for i in ids], rows, meta.about)


def _training(settings: Settings) -> Mapping[str, Any]:
    """What of the settings makes a training, beside what it fixes: that is compared by value."""
    return {k: v for k, v in learning_settings(asdict(settings)).items() if k != "fix"}


def earlier_of(request: Request) -> Earlier | None:
    """The study that the request continues, None where it names none. Raises `BadInput` for one that
    there is not, or that is no study of images with foretune's own trainer.
    """
    if request.continue_from is None:
        return None
    for folder in (request.data / "studies" / request.continue_from, Path(request.continue_from)):
        if (folder / "study.json").is_file():
            break
    else:
        raise BadInput(
            f"--continue-from {request.continue_from!r} is no study in {request.data / 'studies'}; "
            "foretune studies lists them"
        )
    if request.study == folder.name:
        raise BadInput(
            f"--continue-from {folder.name}: the same study goes on with --study {folder.name} "
            "alone; an edited one needs another name"
        )
    study = Study.load(folder)
    noted = study.plan.notes.settings
    known = {f.name for f in fields(Settings)}
    if "network" not in noted:
        raise BadInput(
            f"--continue-from {folder.name}: it tuned a script or a function, not images"
        )
    return Earlier(study, folder, Settings(**{k: v for k, v in noted.items() if k in known}))


def with_kept(
    pool: list[Config], kept: list[Kept], name: str
) -> tuple[list[Config], dict[str, Any]]:
    """The pool with the configurations of the kept trials, and what the study notes of them: the
    study `name`, and of each trial its id now, its id there, and its epochs.
    """
    place = {config_key(config): k for k, config in enumerate(pool)}
    trials = []
    for one in kept:
        trials.append(
            [place.setdefault(config_key(one.config), len(place)), one.config_id, one.epochs]
        )
    new = [one.config for one in kept if place[config_key(one.config)] >= len(pool)]
    return [*pool, *new], {NOTE: {"study": name, "trials": trials}}


def kept_epochs(notes: Mapping[str, Any]) -> int:
    """The epochs that a study took over, by its notes beside the known ones."""
    return sum(epochs for _, _, epochs in (notes.get(NOTE) or {}).get("trials", []))


def take_over(study: Study, objective: Training, earlier: Earlier) -> None:
    """Tell `study` the epochs of the trials that it keeps, as it noted them, and copy the networks
    that are still there; what was told before is passed over.
    """
    noted = study.plan.notes.extra.get(NOTE) or {}
    there = Training(Path(), earlier.settings, earlier.folder / "checkpoints").checkpoint
    same_seed = earlier.study.seed == study.seed
    for new, old, epochs in noted.get("trials", []):
        if study.failed[new] or study.epoch[new] >= epochs:
            continue
        same = config_key(study.configs[new]) == config_key(earlier.study.configs[old])
        same &= _training(objective.settings) == _training(earlier.settings)
        same &= objective.settings.fix == earlier.settings.fix and same_seed
        # a network that goes on must be of the very same trial; the best one is handed over as it is
        for best in (True, False) if same else (True,):
            if (path := there(old, best=best)).exists():
                objective.folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, objective.checkpoint(new, best=best))
        rows = [row for row in earlier.study.rows[old] if row["epoch"] <= epochs]
        study.tell(Step(new, 0, epochs), rows)
        if earlier.study.failed[old] and not study.failed[new]:
            study.fail(Step(new, epochs, study.max_epoch), epochs, earlier.study.failures[old][1])
