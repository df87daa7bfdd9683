"""All kinds of harm by name, and how a study meets one."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import victim as harmed

from campaign import kinds, real
from campaign.counts import Count
from campaign.kinds import Case
from campaign.nursery import Nursery
from campaign.processes import TOKEN, Server, database, marked


@dataclass(frozen=True)
class Kind:
    """A kind of harm. `server`: what the study talks to; `mounted`: what lies on a small disk of
    its own (`study`, `log` or both); `early`: each fourth time comes while things start; `first`:
    all of them do; `spares`: no trial's process ends, so that no epoch is repeated; `options`: of
    the victim; `ahead`: epochs that are told before; `case`: the studies that it is done to. A harm
    that returns False came too late.
    """

    harm: Callable[[Case], bool | None]
    server: str | None = None
    mounted: tuple[str, ...] = ()
    early: bool = False
    first: bool = False
    spares: bool = False
    options: tuple[str, ...] = ()
    ahead: int = 2 * harmed.WORKERS
    case: type[Case] = Case

    @property
    def about(self) -> str:
        """What happens."""
        return " ".join((self.harm.__doc__ or "").split())


FLOW = ("--flow",)
KINDS = {
    "study": Kind(kinds.study, early=True),
    "worker": Kind(kinds.worker),
    "machine": Kind(kinds.machine, early=True),
    "terminate": Kind(kinds.terminate),
    "interrupt": Kind(kinds.interrupt),
    "frozen": Kind(kinds.frozen, spares=True),
    "flow": Kind(kinds.flow, "prefect", options=FLOW),
    "prefect": Kind(kinds.restart, "prefect", options=FLOW),
    "prefect-hangs": Kind(kinds.hang, "prefect", options=FLOW),
    "mlflow": Kind(kinds.restart, "mlflow", early=True, spares=True),
    "mlflow-hangs": Kind(kinds.hang, "mlflow", spares=True),
    "everything": Kind(kinds.everything, "mlflow"),
    "migration": Kind(kinds.migration, first=True),
    "disk": Kind(kinds.disk, mounted=("study", "log")),
    "log-disk": Kind(kinds.log_disk, mounted=("log",), spares=True),
    "readonly": Kind(kinds.readonly, mounted=("study",)),
    "checkpoint": Kind(kinds.checkpoint, options=("--sealed",)),
    "journal": Kind(kinds.journal),
    "header": Kind(kinds.header),
    "parquet": Kind(kinds.parquet),
    "clock": Kind(kinds.clock, spares=True),
    "memory": Kind(kinds.memory),
    "second": Kind(kinds.second, spares=True),
    "save": Kind(kinds.save),
    "copied": Kind(kinds.copied),
    "restored": Kind(kinds.restored),
    "tune": Kind(real.tune, ahead=1, case=real.Training),
    "export": Kind(real.export, ahead=0, case=real.Training),
    "deployment": Kind(real.deployment, ahead=0, case=real.Deployed),
}


def strike(case: Case, kind: Kind) -> bool:
    """One harm; False if the study ended before."""
    early = kind.first or (kind.early and case.count.kills % 4 == 0)
    fresh = not case.victim.running
    if kind.first and Path(case.uri.partition(":///")[2]).exists():
        return False
    if kind.ahead:
        case.victim.start()
    if kind.ahead and not (early and fresh) and not case.victim.progress(kind.ahead):
        return False
    if not kind.first and kind.ahead:
        time.sleep(case.rng.random() * (4.0 if early else 0.5))
        if not case.victim.running:
            return False
    case.count.allowed += 0 if kind.spares else harmed.WORKERS
    if kind.harm(case) is False:
        return False
    if not case.victim.running and kind.harm is not kinds.journal:
        case.note()
    return True


def prepared(
    kind: str,
    number: int,
    seed: int,
    folder: Path,
    server: Server | None,
    nursery: Nursery | None = None,
) -> Case:
    """A new study for a kind of harm."""
    what = KINDS[kind]
    disk = folder / "disk"
    here = disk if "study" in what.mounted else folder
    at = disk if "log" in what.mounted else folder
    uri = server.uri if server and what.server == "mlflow" else database(at)
    if what.first:  # a database of its own
        uri = uri.replace("mlflow.db", f"mlflow-{number}.db")
    count = Count(kind, seed, number)
    rng = random.Random(f"{seed} {kind} {number}")
    environment = {**os.environ, **(server.environment if server else {}), TOKEN: marked()}
    return what.case(count, rng, here, folder, server, environment, uri, what.options, nursery)
