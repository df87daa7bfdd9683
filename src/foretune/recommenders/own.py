"""Recommenders fitted on the user's finished studies too: what is known of them and their use.

A model of one's own lies in `data/own_models/NAME` and is preferred to the shipped one. Which
values were measured is kept in `own.json`, so that no forecast is shown as a result.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.files import write_json
from foretune.history.join import PREFIX, learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Recommender
from foretune.recommenders.past import configs_digest
from foretune.recommenders.registry import load
from foretune.shipped import find
from foretune.training.recipe import Settings

FOLDER = "own_models"  # in the data folder; not kept in git
NOTES = "own.json"  # beside the recommender's own files


@dataclass(frozen=True)
class Own:
    """What a recommender took from the user's studies.

    By past task the hash of its images and the ids of the configurations trained to the end; the
    settings.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    measured: dict[str, tuple[int, ...]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def was_measured(self, task: str, config_id: int) -> bool:
        """Whether the value of a configuration on a past task was measured.

        Always so on those of the meta-dataset.
        """
        return task not in self.measured or config_id in self.measured[task]

    def save(self, folder: Path) -> None:
        """Write `own.json`."""
        write_json(folder / NOTES, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Own":
        """Read `own.json`. Raises `BadInput` where it is missing or no such file."""
        try:
            about = json.loads((folder / NOTES).read_text(encoding="utf-8"))
            measured = {str(t): tuple(int(i) for i in ids) for t, ids in about["measured"].items()}
            return cls(
                {str(t): str(h) for t, h in about["hashes"].items()},
                measured,
                dict(about["settings"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{folder / NOTES} cannot be read: {error}") from error


def settings_of(meta: MetaDataset) -> dict[str, Any]:
    """The settings of a meta-dataset that change what a trial learns.

    What it does not name is the default.
    """
    known = asdict(Settings())
    return learning_settings(
        {**known, **{k: v for k, v in meta.about.get("settings", {}).items() if k in known}}
    )


def load_own(name: str, data: Path, meta: MetaDataset) -> tuple[Recommender, Own]:
    """The recommender of `data/own_models/NAME`.

    Raises `BadInput` that says why where it cannot be used for `meta`.
    """
    folder = data / FOLDER / name
    own, fitted = Own.load(folder), load(folder)
    past = fitted.past
    studies = {task for task in past.tasks if task.startswith(PREFIX)}
    if past.best.shape != (len(past.tasks), len(past.config_ids)) or studies != set(own.measured):
        raise BadInput("its files are not of one fit")
    if own.settings != settings_of(meta):
        raise BadInput(f"it was fitted with other settings than those of {meta.name}")
    if not belongs(fitted, meta, studies):
        raise BadInput(f"it was fitted on another meta-dataset than {meta.name}")
    shipped = find("models", name, data)
    if shipped is not None and set(load(shipped).past.tasks) - set(past.tasks):
        raise BadInput(f"the shipped one in {shipped} knows tasks that it does not")
    return fitted, own


def belongs(
    fitted: Recommender, meta: MetaDataset, own: set[str] | frozenset[str] = frozenset()
) -> bool:
    """Whether a recommender was fitted on `meta`, beside the past tasks `own`.

    Its tasks, configurations and metric must be those.
    """
    past = fitted.past
    return (
        set(past.config_ids) <= set(meta.config_ids)
        and set(past.tasks) - own <= set(meta.tasks)
        and configs_digest(meta, past.config_ids) == past.digest
        and past.metric == meta.metric
    )
