"""What the service tells Prefect's server: the work pool, the automations, the runs that are no
more.

**A dead machine's runs end by themselves.** Each flow run sends a heartbeat every 30 seconds
(`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`); an automation crashes a run of which nothing was heard for
`LOST_SECONDS`, which frees its slots, and another schedules a crashed run of `tune` again. The run
itself gives up earlier, after `prefect_api.LEASE_SECONDS` without the server: a study never has two
runs at work on it.
"""

import argparse
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

POOL = "gpu"
RUNNING, UNFINISHED = ("RUNNING", "CANCELLING"), ("RUNNING", "PENDING", "CANCELLING")
HEARTBEAT_SECONDS = 30  # the shortest that Prefect knows
LOST_SECONDS = 120  # without a heartbeat, before a run counts as gone
START_SECONDS = 600  # from a worker's taking a run to the run's own first word, likewise
RETRIES = 3  # of a `tune` run that crashed
BUSY = (429, 502, 503)  # SQLite under load answers 503
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 0.0)  # seconds after a busy answer
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")
CRASHED = {"type": "CRASHED", "name": "Crashed"}


@dataclass(frozen=True)
class Api:
    """Prefect's API at `address` with its login, "user:password"."""

    address: str
    login: str

    def ask(self, path: str, content: Any = None, method: str = "POST") -> Any:
        """Call it. Raises httpx.HTTPError where it does not answer, or answers with an error; a
        busy server is asked again for a quarter of a minute.
        """
        user, _, password = self.login.partition(":")
        me = str(uuid.uuid4())
        # own servers are on no proxy's other side
        with httpx.Client(
            base_url=self.address, auth=(user, password), timeout=60, trust_env=False
        ) as client:
            token = _steady(client, "GET", "/csrf-token", params={"client": me})
            headers = {"Prefect-Csrf-Token": token["token"], "Prefect-Csrf-Client": me}
            return _steady(client, method, path, json=content, headers=headers)

    def set_pool(self, slots: int) -> None:
        """Make the work pool, or give it `slots` slots."""
        about = "Each slot is a GPU, or a machine's processor."
        try:
            self.ask(
                "/work_pools/",
                {"name": POOL, "type": "process", "description": about, "concurrency_limit": slots},
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:  # it is there
                raise
            self.ask(f"/work_pools/{POOL}", {"concurrency_limit": slots}, "PATCH")

    def slots(self) -> int | None:
        """The slots of the work pool; None where there is none yet."""
        try:
            return self.ask(f"/work_pools/{POOL}", method="GET")["concurrency_limit"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return None

    def set_automations(self, renew: bool = True) -> None:
        """Make the automations that are not there; `renew` the others as they are written here: one
        that is renewed forgets what it was about to answer, such as a crash of this second.
        """
        there = {a["name"]: a["id"] for a in self.ask("/automations/filter", {})}
        for automation in automations():
            if known := there.get(automation["name"]):
                if renew:
                    self.ask(f"/automations/{known}", automation, "PUT")
            else:
                self.ask("/automations/", automation)

    def runs(self, states: Sequence[str]) -> list[dict[str, Any]]:
        """The pool's runs in these types of states."""
        wanted = {
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
            "work_pools": {"name": {"any_": [POOL]}},
        }
        return self.ask("/flow_runs/filter", wanted)

    def other_workers(self, own: str) -> bool:
        """Whether workers that are not called `own`-something are online."""
        workers = self.ask(f"/work_pools/{POOL}/workers/filter", {})
        return any(w["status"] == "ONLINE" and not w["name"].startswith(own) for w in workers)

    def crash(self, run: str) -> None:
        """Tell that a run's process is gone."""
        state = {**CRASHED, "message": "its process is gone"}
        self.ask(f"/flow_runs/{run}/set_state", {"state": state, "force": True})


def _steady(client: httpx.Client, method: str, path: str, **more: Any) -> Any:
    for wait in WAITS:
        answer = client.request(method, path, **more)
        if answer.status_code not in BUSY:
            break
        time.sleep(wait)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def automations() -> list[dict[str, Any]]:
    """The automations, as Prefect's API takes them."""
    over = [f"prefect.flow-run.{state}" for state in FINAL]
    running = "prefect.flow-run.heartbeat"
    crash = {"type": "change-flow-run-state", "state": "CRASHED", "name": "Crashed", "force": True}
    return [
        {
            "name": "foretune: a run whose machine is lost has crashed",
            "description": f"Nothing was heard of it for {LOST_SECONDS} s.",
            "trigger": _silence([running], [running, *over], LOST_SECONDS),
            "actions": [{**crash, "message": f"no heartbeat for {LOST_SECONDS} s: machine lost"}],
        },
        {
            "name": "foretune: a run that never began has crashed",
            "description": "A worker took it, and was lost before it started.",
            "trigger": _silence(
                ["prefect.flow-run.Pending"],
                [
                    running,
                    "prefect.flow-run.Running",
                    "prefect.flow-run.Scheduled",
                    "prefect.flow-run.AwaitingConcurrencySlot",
                    "prefect.flow-run.Cancelling",
                    *over,
                ],
                START_SECONDS,
            ),
            "actions": [{**crash, "message": f"not started {START_SECONDS} s after it was taken"}],
        },
        {
            "name": "foretune: a crashed study goes on",
            "description": f"A run of tune that crashed starts again, {RETRIES} times at most.",
            "trigger": _event(
                "prefect.flow-run.Crashed",
                {"prefect.run-count": [str(n) for n in range(1, RETRIES + 1)]},
                {"prefect.resource.role": "deployment", "prefect.resource.name": "tune"},
            ),
            "actions": [
                {
                    "type": "change-flow-run-state",
                    "state": "SCHEDULED",
                    "name": "AwaitingRetry",
                    "message": "the study goes on",
                }
            ],
        },
        {
            "name": "foretune: a scheduled watch does not queue up",
            "description": "The watch at work goes on with what came meanwhile.",
            "trigger": _event(
                "prefect.flow-run.AwaitingConcurrencySlot",
                {},
                {"prefect.resource.id": "prefect.tag.auto-scheduled"},
                {"prefect.resource.role": "deployment", "prefect.resource.name": "inbox"},
            ),
            "actions": [
                {
                    "type": "change-flow-run-state",
                    "state": "CANCELLED",
                    "name": "Cancelled",
                    "message": "another watch is at work, and goes on with what came meanwhile",
                }
            ],
        },
    ]


def _silence(after: Sequence[str], expect: Sequence[str], seconds: int) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Proactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "after": list(after),
        "expect": list(expect),
        "threshold": 1,
        "within": seconds,
    }


def _event(event: str, match: Mapping[str, Any], *related: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*", **match},
        "match_related": [dict(labels) for labels in related],
        "for_each": ["prefect.resource.id"],
        "expect": [event],
        "threshold": 1,
        "within": 0,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make the work pool and the automations of the server that PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m orchestration", description=main.__doc__)
    parser.add_argument("--slots", type=int, default=1, help="of the pool, where there is none yet")
    given = parser.parse_args(argv)
    api = Api(os.environ["PREFECT_API_URL"], os.environ.get("PREFECT_API_AUTH_STRING", ""))
    if api.slots() is None:
        api.set_pool(given.slots)
    api.set_automations()
    return 0


if __name__ == "__main__":
    sys.exit(main())
