"""Which method a study goes by, and the ranking that it takes."""

from collections.abc import Sequence
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.history import (
    BY_RUNS,
    Lessons,
)
from foretune.running.request import Request
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, method
from foretune.space.space import Config
from foretune.study.header import read_header
from foretune.study.notes import RankingNote
from foretune.tasks.task import Task


def method_of(
    request: Request,
    past: MetaDataset | None,
    told: Sequence[str] = (),
    taught: Lessons | None = None,
) -> str:
    """The method that the request names, or the best there is for what is at hand. Raises `BadInput`
    for one that needs past tasks where there are none, and no past runs that it can take in their
    place; `told` may say why.
    """
    some = past is not None and bool(past.tasks)
    name = request.method or (DEFAULT if some or taught is not None else DEFAULT_WITHOUT_PAST)
    if method(name).needs_past and not some and (taught is None or name not in BY_RUNS):
        where = "; ".join(told) or f"{request.meta} has none"
        if request.meta == "none" or request.space == "hyperrec":
            where = f"{'--meta none' if request.meta == 'none' else '--space hyperrec'} gives none"
        raise BadInput(f"method {name!r} needs past tasks, and {where}: take --method hyperband")
    return name


def method_of_old(folder: Path, now: str, past: MetaDataset | None) -> str:
    """The method of a study that goes on where none is named: its own, whatever would be best by
    `now`, which other studies may have changed meanwhile.
    """
    plan = read_header(folder)[2]
    own = plan.method
    some = (past is not None and bool(past.tasks)) or plan.notes.runs is not None
    return own if some or not method(own).needs_past else now


def ranking_of(
    request: Request, name: str, task: Task, past: MetaDataset | None, pool: list[Config]
) -> RankingNote | None:
    """What a fitted recommender says about the pool, for the plan's notes; None where the method
    takes no ranking, or nothing is fitted.

    A recommender that the request names has to be there; raises `BadInput` where it is not, or
    where its past is not the study's.
    """
    chosen = request.recommender or method(name).recommender
    if chosen is None:
        return None
    if past is None or not past.tasks or not pool or request.sources or request.without:
        if request.recommender is None:
            return None
        raise BadInput(
            f"--recommender {chosen} ranks the meta-dataset's configurations by its past "
            "tasks, which --meta none, --space, --sources and --without take away"
        )
    from foretune.recommenders.recommendation import recommend

    try:
        found = recommend(
            task,
            data=request.data,
            meta=request.meta,
            recommender=chosen,
            seed=request.seed,
            own=request.own_studies,
        )
        return found.in_pool(pool)
    except BadInput:
        # the method has a ranking of its own, and says which one it used
        if request.recommender is None:
            return None
        raise


def refuse_recommender(chosen: str, name: str) -> None:
    """Raise `BadInput` for a recommender that there is not, or that method `name` has no use for."""
    from foretune.recommenders.registry import offered

    if method(name).recommender is None:
        raise BadInput(
            f"method {name!r} takes no ranking; --method recommended --option then={name} "
            f"lets {chosen} give it the first configurations"
        )
    offered(chosen)
