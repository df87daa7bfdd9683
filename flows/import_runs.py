"""Import what is new in a team's MLflow, as a Prefect flow.

    python flows/import_runs.py https://mlflow.example.org --into team [--data data]

Runs land in the run store DATA/history/STORE, as `foretune import` puts them there: those that are
there already are passed over, those that have trained on are taken again. A schedule calls it again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect_api import leased, prefect_api

from foretune.errors import BadInput, plural

STORE = "team"


@flow(name="import-runs", persist_result=False, log_prints=True)
@leased
def import_runs(
    source: str | None = None,
    into: str = STORE,
    task: str | None = None,
    mapping: str | None = None,
    data: str = "data",
) -> int:
    """Import what is new; the number of runs that were.

    Args:
        source: address of an MLflow server, or sqlite:///FILE, as the worker reaches it; a login
            comes from the worker's MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD
        into: name of the run store in DATA/history, on the worker's machine
        task: all runs are of this task (default: their experiment, or the column that names one)
        mapping: how names become foretune's: the mapping.yaml of an earlier import, edited
        data: folder with history, on the worker's machine
    """
    return import_new(source, into, task, mapping, Path(data))


def import_new(
    source: str | None, into: str, task: str | None, mapping: str | None, data: Path
) -> int:
    """What the flow does. Raises `BadInput`, before anything is written, for a source that is not
    there, a metric that cannot be told, or a name that is none.
    """
    from foretune.stores import mapping as mappings
    from foretune.stores.importing import import_runs as read_runs
    from foretune.stores.metrics import choose
    from foretune.stores.registry import read_source

    if not source:
        raise BadInput("source must be given: an MLflow server's address, or sqlite:///FILE")
    if Path(into).name != into or into.startswith("."):
        raise BadInput(f"into={into!r} must be a plain name, such as team")
    if "@" in source.partition("://")[2].partition("/")[0]:
        raise BadInput(
            "source holds a login, which Prefect would show: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD where the worker runs"
        )
    given = mappings.load(Path(mapping)) if mapping else {}
    if task:
        given = {**given, "task": f"={task}"}
    runs = read_source(source, "mlflow")
    goal = choose(runs, **{key: given.get(key) for key in ("metric", "goal", "unit", "split")})
    part, findings = read_runs(runs, mappings.propose(runs, goal, given))
    for line in findings.lines():
        print(line)
    new = part.add_to(data / "history" / into, revise=bool(given))
    print(f"stored   {len(new)} new {plural('run', len(new))} in {data / 'history' / into}")
    return len(new)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a script."""
    parser = argparse.ArgumentParser(prog="python flows/import_runs.py", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help="an MLflow server, or sqlite:///FILE")
    parser.add_argument("--into", default=STORE, metavar="STORE", help="name in DATA/history")
    parser.add_argument("--task", metavar="NAME", help="all runs are of this task")
    parser.add_argument("--mapping", metavar="FILE", help="the mapping.yaml of an earlier import")
    parser.add_argument("--data", default="data", metavar="FOLDER")
    try:
        with prefect_api():
            import_runs(**vars(parser.parse_args(argv)))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
