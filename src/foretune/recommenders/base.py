"""What every recommender is: fitted once on past tasks, it ranks configurations for a new one."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past
from foretune.recommenders.ranking import Ranking
from foretune.tasks.task import Task

Arrays = dict[str, np.ndarray]
ABOUT, WEIGHTS = "recommender.json", "weights.safetensors"


class Recommender(ABC):
    """Ranks configurations for a new task from its images and the past tasks' results.

    A subclass has `fit`, `rank`, and `state`/`restore`, the arrays and plain values that make up
    what was learned. Options are keyword arguments of its constructor with plain values, kept in
    `options`. A fitted recommender is a function of the meta-dataset, the images and the seed.
    """

    name: ClassVar[str] = ""
    past: Past

    def __init__(self, **options: Any):
        self.options = options

    @abstractmethod
    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Learn from the past tasks alone: `meta` holds no other.

        `tasks` are their images by name; more than those are ignored.
        """

    @abstractmethod
    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """Rank the configurations for `task`; `seed` draws the images that are looked at."""

    @abstractmethod
    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """What `restore` needs: arrays by name, and values that JSON can hold."""

    @abstractmethod
    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave; `past` is set already."""

    def settled(self) -> dict[str, Any]:
        """Options that fix what `fit` chose by itself, for a further training on the same past."""
        return {}

    def begin(self, meta: MetaDataset, tasks: Mapping[str, Task]) -> list[Task]:
        """Set `past` and return the past tasks in its order.

        Raises `BadInput` that names those without images.
        """
        self.past = Past.of(meta)
        if missing := [name for name in self.past.tasks if name not in tasks]:
            raise BadInput(
                f"recommender {self.name!r} needs the images of all past tasks; missing: "
                f"{', '.join(missing)}"
            )
        return [tasks[name] for name in self.past.tasks]

    def save(self, folder: Path | str) -> None:
        """Write `recommender.json` and `weights.safetensors`, each by rename.

        Equal content gives equal files.
        """
        from safetensors.numpy import save

        folder = Path(folder)
        arrays, values = self.state()
        content = save(
            {"past/best": self.past.best}
            | {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        )
        with replace(folder / WEIGHTS) as temporary:
            temporary.write_bytes(content)
        past = {
            "tasks": list(self.past.tasks),
            "config_ids": [int(i) for i in self.past.config_ids],
            "metric": self.past.metric,
            "sign": self.past.sign,
            "digest": self.past.digest,
        }
        write_json(
            folder / ABOUT,
            {"name": self.name, "options": self.options, "past": past, "values": values},
        )

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote.

        Raises `BadInput` for a folder that holds another recommender or cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            arrays = load_file(folder / WEIGHTS)
            if about["name"] != cls.name:
                raise BadInput(
                    f"{folder} holds the recommender {about['name']!r}, not {cls.name!r}"
                )
            out = cls(**about["options"])
            out.past = Past(
                tuple(about["past"]["tasks"]),
                tuple(about["past"]["config_ids"]),
                arrays.pop("past/best"),
                about["past"]["metric"],
                about["past"]["sign"],
                about["past"]["digest"],
            )
            out.restore(arrays, about["values"])
        except BadInput:
            raise
        # RuntimeError: torch's, of a weight that does not fit
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise BadInput(f"{folder} holds no recommender that can be read: {error}") from error
        return out
