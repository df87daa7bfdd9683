"""The recommenders that can be named: an explicit table, loaded one at a time."""

import importlib
import inspect
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.recommenders.base import ABOUT, Recommender


@dataclass(frozen=True)
class Entry:
    """Where a recommender lives (`module:Class`), what it does in a line, and the options that make this variant of it."""

    where: str
    about: str
    options: dict[str, Any] = field(default_factory=dict)


RECOMMENDERS: dict[str, Entry] = {
    "random": Entry("foretune.recommenders.baselines:Random", "random order"),
    "task-agnostic": Entry("foretune.recommenders.baselines:TaskAgnostic", "mean normalised score over past tasks"),
    "mean-rank": Entry("foretune.recommenders.baselines:MeanRank", "mean rank over past tasks"),
    "portfolio": Entry("foretune.recommenders.baselines:Portfolio", "greedy portfolio of past tasks, then mean rank"),
    "random-forest": Entry(
        "foretune.recommenders.described:RandomForest", "random forest over metadata and configuration"
    ),
    "nearest-metadata": Entry(
        "foretune.recommenders.described:NearestMetadata", "the list of the past task nearest by metadata"
    ),
    "metadata-network": Entry("foretune.recommenders.described:MetadataNetwork", "HyperSTAR's predictor on metadata"),
    "global-mean": Entry(
        "foretune.recommenders.described:GlobalMean", "HyperSTAR's predictor on the mean frozen ImageNet feature"
    ),
    "tr-automl": Entry(
        "foretune.recommenders.described:TrAutoML", "the past task nearest by ten trial runs on the new one"
    ),
    "hyperstar": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR", "HyperSTAR with both regularisers, three networks averaged"
    ),
    "hyperstar-bm": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR",
        "batchwise mean: no regulariser",
        {"members": 1, "similarity": False, "adversarial": False},
    ),
    "hyperstar-sim": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR",
        "batchwise mean and similarity",
        {"members": 1, "adversarial": False},
    ),
    "hyperstar-gan": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR", "batchwise mean and adversary", {"members": 1, "similarity": False}
    ),
    "hyperstar-both": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR", "batchwise mean, similarity and adversary", {"members": 1}
    ),
    "hyperstar-paper": Entry(
        "foretune.recommenders.hyperstar:HyperSTAR",
        "the same without the mean score as a start",
        {"members": 1, "residual": False},
    ),
    "siamese": Entry(
        "foretune.recommenders.siamese:SiameseNearest", "the past tasks nearest by a Siamese network's distance"
    ),
}


def entry(name: str) -> Entry:
    """The recommender of this name. Raises `BadInput` that suggests near names."""
    if name not in RECOMMENDERS:
        near = get_close_matches(name, RECOMMENDERS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise BadInput(f"unknown recommender {name!r}{hint}; there are {', '.join(RECOMMENDERS)}")
    return RECOMMENDERS[name]


def kind(name: str) -> type[Recommender]:
    """The class behind a name."""
    module, _, cls = entry(name).where.partition(":")
    return getattr(importlib.import_module(module), cls)


def recommender(name: str, **options: Any) -> Recommender:
    """Make the recommender of this name, not fitted; `options` replace the entry's own. Raises `BadInput` on an unknown name or option."""
    cls = kind(name)
    known = inspect.signature(cls).parameters
    if unknown := [o for o in options if o not in known]:
        raise BadInput(f"recommender {name!r} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return cls(**{**entry(name).options, **options})


def load(folder: Path | str) -> Recommender:
    """The fitted recommender that was saved in `folder`, whichever it is. Raises `BadInput` where there is none."""
    try:
        saved = json.loads((Path(folder) / ABOUT).read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no recommender: {error}") from error
    for name in RECOMMENDERS:
        if name == saved or kind(name).name == saved:
            return kind(name).load(folder)
    raise BadInput(f"{folder} holds the recommender {saved!r}, which is not known; there are {', '.join(RECOMMENDERS)}")
