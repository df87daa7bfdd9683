"""The methods that `--method` can name: an explicit table, loaded one at a time."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from foretune.errors import BadInput
from foretune.searchers.base import Searcher
from foretune.space.parameters import KINDS, coerce


@dataclass(frozen=True)
class Method:
    """Where a searcher lives (`module:Class`), what it does in a line, whether it needs past tasks,
    whose ranking it takes, and whether it reads Z.
    """

    where: str
    about: str
    needs_past: bool = False
    recommender: str | None = (
        # the fitted recommender (`foretune.recommenders.recommendation`) whose ranking it finds in
        # `Plan.notes`
        None
    )
    # the class's own, where they differ from its defaults
    options: Mapping[str, Any] = field(default_factory=dict)
    rank: bool = False  # decides from `zero_share`: trials must record it
    forecasts: bool = False  # says what going on still promises (`Searcher.prospect`)


METHODS: dict[str, Method] = {
    "random": Method(
        "foretune.searchers.gray_box.random:Random",
        "random configurations, each trained to the end",
    ),
    "sha": Method(
        "foretune.searchers.gray_box.hyperband:SuccessiveHalving",
        "successive halving: many configurations, the best share goes on",
    ),
    "hyperband": Method(
        "foretune.searchers.gray_box.hyperband:Hyperband",
        "successive halving over several trade-offs of breadth and depth",
    ),
    "mean-rank": Method(
        "foretune.searchers.transfer.portfolio:MeanRank",
        "past tasks' mean ranking, each trained to the end",
        needs_past=True,
    ),
    "portfolio": Method(
        "foretune.searchers.transfer.portfolio:Portfolio",
        "past tasks' greedy portfolio, each trained to the end",
        needs_past=True,
    ),
    "autohyper": Method(
        "foretune.searchers.autohyper:AutoHyper",
        "the initial learning rate from the weights themselves (needs --open --from-scratch)",
        rank=True,
    ),
    "curve-transfer": Method(
        "foretune.searchers.transfer.curve_transfer:CurveTransfer",
        "exact curve forecasts under a prior learned from past curves",
        needs_past=True,
        forecasts=True,
    ),
    "asha": Method("foretune.searchers.gray_box.asha:ASHA", "successive halving that never waits"),
    "bohb": Method(
        "foretune.searchers.gray_box.bohb:BOHB",
        "Hyperband that samples where the good ones were dense",
    ),
    "hyperband-gp": Method(
        "foretune.searchers.gray_box.hyperband_gp:HyperbandGP",
        "Hyperband that starts what a process on ranks expects to win",
    ),
    "dehb": Method(
        "foretune.searchers.gray_box.dehb:DEHB", "Hyperband whose configurations evolve"
    ),
    "boca": Method(
        "foretune.searchers.gray_box.boca:BOCA",
        "multi-fidelity GP-UCB: few epochs while they tell enough",
    ),
    "dpl": Method(
        "foretune.searchers.gray_box.dpl:DPL",
        "an ensemble of power laws forecasts each curve's end",
    ),
    "dyhpo": Method(
        "foretune.searchers.gray_box.dyhpo:DyHPO",
        "after every epoch, the one whose next epoch promises most (deep-kernel GP)",
    ),
    "dyhpo+": Method(
        "foretune.searchers.gray_box.dyhpo:DyHPO",
        "DyHPO that starts no more configurations than its epochs can follow up",
        options={"width": 10.0},
    ),
    "freeze-thaw": Method(
        "foretune.searchers.gray_box.freeze_thaw:FreezeThaw",
        "pause and resume by the expected rate of improvement",
    ),
    "at2": Method(
        "foretune.searchers.transfer.at2:AT2",
        "multi-task multi-fidelity Gaussian process, exact, under Max-Trial-GP-UCB",
        needs_past=True,
    ),
    "ablr": Method(
        "foretune.searchers.transfer.ablr:ABLR",
        "Bayesian linear regression on features that past tasks trained",
        needs_past=True,
    ),
    "ablr-hb": Method(
        "foretune.searchers.transfer.ablr:ABLRHyperband",
        "Hyperband that starts what ABLR likes",
        needs_past=True,
    ),
    "box-bo": Method(
        "foretune.searchers.transfer.box:BoxBO",
        "a Gaussian process inside the box of past bests",
        needs_past=True,
    ),
    "box-bohb": Method(
        "foretune.searchers.transfer.box:BoxBOHB",
        "BOHB inside the box of past bests",
        needs_past=True,
    ),
    "bohamiann": Method(
        "foretune.searchers.transfer.bohamiann:Bohamiann",
        "a Bayesian neural network over tasks, sampled",
        needs_past=True,
    ),
    "pmf": Method(
        "foretune.searchers.transfer.pmf:PMF",
        "probabilistic matrix factorisation of the past",
        needs_past=True,
    ),
    "rgpe": Method(
        "foretune.searchers.transfer.rgpe:RGPE",
        "a ranking-weighted ensemble of past tasks' Gaussian processes",
        needs_past=True,
    ),
    "empirical-prior": Method(
        "foretune.searchers.transfer.empirical_prior:EmpiricalPrior",
        "prior mean and covariance from past bests; full trainings",
        needs_past=True,
    ),
    "siamese-bo": Method(
        "foretune.searchers.pictures.siamese_bo:SiameseBO",
        "the nearest past tasks' bests, then a Gaussian process around their mean; full trainings",
        needs_past=True,
        recommender="siamese",
    ),
    "task-aware-hyperband": Method(
        "foretune.searchers.pictures.recommended:TaskAwareHyperband",
        "Hyperband that starts what a recommender ranks first for the task's pictures",
        needs_past=True,
        recommender="hyperstar",
    ),
    "recommended": Method(
        "foretune.searchers.pictures.recommended:Recommended",
        "a recommender's first configurations, then another method",
        needs_past=True,
        recommender="hyperstar",
    ),
    "task-weights": Method(
        "foretune.searchers.transfer.empirical_prior:TaskWeights",
        "the target as a weighted sum of past curves",
        needs_past=True,
    ),
}

DEFAULT = "curve-transfer"  # where past tasks exist
DEFAULT_WITHOUT_PAST = "hyperband"


def method(name: str) -> Method:
    """The method of this name. Raises `BadInput` that suggests near names."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise BadInput(f"unknown method {name!r}{hint}; there are {', '.join(METHODS)}")
    return METHODS[name]


def searcher(name: str, **options: Any) -> Searcher:
    """Make the searcher of this name with its own options. Raises `BadInput` on an unknown name or
    option.
    """
    module, _, cls = method(name).where.partition(":")
    kind = getattr(importlib.import_module(module), cls)
    known = inspect.signature(kind).parameters
    if unknown := [o for o in options if o not in known]:
        raise BadInput(
            f"method {name!r} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    for option, value in options.items():
        # a default that says nothing (None) takes any, and the method itself judges it
        default = known[option].default
        if type(default) in KINDS:
            where = f"option {option}={value!r} of method {name!r}"
            coerce(type(default), value, where, f", such as {default!r}")
    return kind(**{**method(name).options, **options})
