"""The recommenders that can be named: an explicit table, loaded one at a time."""

import importlib
import inspect
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.recommenders.base import ABOUT, Recommender


@dataclass(frozen=True)
class Entry:
    """Where a recommender lives (`module:Class`), what it does, and its variant's options."""

    where: str
    about: str
    options: dict[str, Any] = field(default_factory=dict)
    choice_of: str = ""  # ablations share what this variant chose by inner leave-sources-out
    # what it must train on the new task first: it is compared with others, and cannot be asked for
    # a recommendation
    trains: str = ""
    reads_images: bool = True  # of the past tasks: it must be fitted before it can be asked


HYPERSTAR = "foretune.recommenders.hyperstar.recommender:HyperSTAR"
PLAIN = "hyperstar-bm"
ONE = {"members": 1}


def variant(similarity: bool, adversarial: bool) -> dict[str, Any]:
    """Which of HyperSTAR's regularisers are on."""
    return {"similarity": similarity, "adversarial": adversarial}


RECOMMENDERS: dict[str, Entry] = {
    "random": Entry(
        "foretune.recommenders.baselines:RandomOrder", "random order", reads_images=False
    ),
    "task-agnostic": Entry(
        "foretune.recommenders.baselines:TaskAgnostic",
        "mean normalised score over past tasks",
        reads_images=False,
    ),
    "raw-mean": Entry(
        "foretune.recommenders.baselines:RawMeanOrder",
        "mean value over past tasks, not normalised (HyperSTAR's task-agnostic baseline)",
        reads_images=False,
    ),
    "mean-rank": Entry(
        "foretune.recommenders.baselines:MeanRankOrder",
        "mean rank over past tasks",
        reads_images=False,
    ),
    "portfolio": Entry(
        "foretune.recommenders.baselines:PortfolioOrder",
        "greedy portfolio of past tasks, then mean rank",
        reads_images=False,
    ),
    "random-forest": Entry(
        "foretune.recommenders.described:RandomForest",
        "random forest over metadata and configuration",
    ),
    "nearest-metadata": Entry(
        "foretune.recommenders.described:NearestMetadata",
        "the list of the past task nearest by metadata",
    ),
    "metadata-network": Entry(
        "foretune.recommenders.described:MetadataNetwork", "HyperSTAR's predictor on metadata"
    ),
    "global-mean": Entry(
        "foretune.recommenders.described:GlobalMean",
        "HyperSTAR's predictor on the mean frozen ImageNet feature",
    ),
    "tr-automl": Entry(
        "foretune.recommenders.described:TrAutoML",
        "the past task nearest by ten trial runs on the new one",
        trains="ten configurations",
        reads_images=False,
    ),
    "hyperstar": Entry(
        HYPERSTAR, "HyperSTAR with both regularisers, three networks averaged", choice_of=PLAIN
    ),
    "hyperstar-bm": Entry(
        HYPERSTAR, "HyperSTAR's batchwise mean, no regulariser", {**ONE, **variant(False, False)}
    ),
    "hyperstar-sim": Entry(
        HYPERSTAR, "... with the similarity regulariser", {**ONE, **variant(True, False)}, PLAIN
    ),
    "hyperstar-gan": Entry(
        HYPERSTAR, "... with the adversarial regulariser", {**ONE, **variant(False, True)}, PLAIN
    ),
    "hyperstar-both": Entry(
        HYPERSTAR, "... with both regularisers", {**ONE, **variant(True, True)}, PLAIN
    ),
    "hyperstar-paper": Entry(
        HYPERSTAR, "... with both, not starting from the mean score", {**ONE, "residual": False}
    ),
    "landmarks": Entry(
        "foretune.recommenders.kernel_ridge:KernelRidge",
        "the mean list, moved by kernel ridge on what cheap classifiers say of the task's images",
    ),
    "siamese": Entry(
        "foretune.recommenders.siamese.recommender:SiameseNearest",
        "the past tasks nearest by a Siamese network's distance",
    ),
}


def entry(name: str) -> Entry:
    """The entry of a recommender. Raises `BadInput` that suggests near names."""
    if name not in RECOMMENDERS:
        raise unknown(name, RECOMMENDERS)
    return RECOMMENDERS[name]


def unknown(name: str, known: Collection[str]) -> BadInput:
    """That there is no such recommender among those `known`, and a near name."""
    near = get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return BadInput(f"unknown recommender {name!r}{hint}; there are {', '.join(known)}")


def offered(name: str) -> Entry:
    """The recommender of this name, for a recommendation: nothing is trained for one.

    Raises `BadInput` for one that would have to, and as `entry`.
    """
    known = [other for other, row in RECOMMENDERS.items() if not row.trains]
    if name not in RECOMMENDERS:
        raise unknown(name, known)
    if trains := RECOMMENDERS[name].trains:
        raise BadInput(
            f"recommender {name!r} cannot rank untrained: it compares results, and must train "
            f"{trains} on the new task first; it is there to be "
            f"compared with (python -m papers.hyperstar.rankings). Take one of {', '.join(known)}"
        )
    return RECOMMENDERS[name]


def class_of(name: str) -> type[Recommender]:
    """The class behind a name."""
    module, _, cls = entry(name).where.partition(":")
    return getattr(importlib.import_module(module), cls)


def recommender(name: str, **options: Any) -> Recommender:
    """Make the recommender of this name, not fitted; `options` replace the entry's own.

    Raises `BadInput` on an unknown name or option.
    """
    cls = class_of(name)
    known = getattr(cls, "defaults", inspect.signature(cls).parameters)
    if unknown := [o for o in options if o not in known]:
        raise BadInput(
            f"recommender {name!r} has no option {unknown[0]!r}; it has "
            f"{', '.join(known) or 'none'}"
        )
    return cls(**{**entry(name).options, **options})


def load(folder: Path | str) -> Recommender:
    """The fitted recommender that was saved in `folder`, whichever it is.

    Raises `BadInput` where there is none.
    """
    try:
        saved = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} holds no recommender: {error}") from error
    for name in RECOMMENDERS:
        if name == saved or class_of(name).name == saved:
            return class_of(name).load(folder)
    raise BadInput(
        f"{folder} holds the recommender {saved!r}, which is not known; there are "
        f"{', '.join(RECOMMENDERS)}"
    )
