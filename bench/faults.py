"""Do harm to studies at random moments, and count what it cost.

    python bench/faults.py [--kills 300] [--kinds worker,flow,...] [--seed 0]
        [--out data/reports/faults.csv] [--folder KEEP]
    python bench/faults.py --list

Trials sleep instead of training (`bench/victim.py`), so that processor cores do not limit, and
write down each epoch that they really execute, with the value that it gave; no two executions give
the same one. Two workers. `--list` says what each kind of harm is (`bench/campaign`); the kinds
`tune`, `export` and `deployment` train tiny networks, whose values have to be those of a study that
nobody disturbed.

A study that ends before its share of harm is done is followed by another. At its end every value is
compared across journal, tables, what was executed and MLflow. Each study is a line of the CSV file
as soon as it is over, and the same command goes on from there; the table is over all lines of the
kinds asked for. Exit code 1 if an epoch was lost, a value doubled, not logged or wrong, more epochs
were repeated than were in flight (one a worker and kill) or had their checkpoint taken, a process
was left running, or a study did not survive. The last column is the failure rate that the numbers
exclude with 95 % confidence.

Some kinds mount a small disk of their own in a namespace (`unshare`, Linux).
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import psutil
from campaign.counts import append, read, table
from campaign.kinds import Case
from campaign.nursery import Nursery
from campaign.processes import DISK_BYTES, TOKEN, Server, left, mount
from campaign.registry import KINDS, prepared, strike

MOUNTS = "FORETUNE_MOUNTS"  # in the environment of a campaign in its own namespace


def campaign(
    kind: str,
    kills: int,
    first: int,
    seed: int,
    folder: Path,
    out: Path,
    nursery: Nursery | None,
) -> None:
    """`kills` kills of one kind, on studies numbered from `first`."""
    what = KINDS[kind]
    folder.mkdir(parents=True)
    if what.mounted:
        (folder / "disk").mkdir()
        mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder / "disk"))
    server = Server(what.server, folder) if what.server else None
    # Prefect reads its settings as it is imported
    nursery = None if what.server == "prefect" else nursery
    done = 0
    try:
        if server:
            server.start()
        while done < kills:
            case = prepared(kind, first, seed, folder, server, nursery)
            one(case, kills - done)
            done, first = done + case.count.kills, first + 1
            append(out, case.count)
            trouble = f"; {case.count.trouble}" if case.count.trouble else ""
            print(f"{kind}: {done} of {kills}{trouble}", file=sys.stderr, flush=True)
    finally:
        if server:
            server.kill()
        if what.mounted:
            mount("--lazy", str(folder / "disk"), command="umount")


def one(case: Case, kills: int) -> None:
    """A study, and at most `kills` kills."""
    count = case.count
    try:
        case.victim.folder.mkdir(parents=True)
        while count.kills < kills and strike(case, KINDS[count.kind]):
            count.kills += 1
        case.finish()
        count.survived = count.kills
    except (TimeoutError, RuntimeError, psutil.TimeoutExpired) as error:
        count.kills = max(count.kills, 1)  # or it would be tried for ever
        count.trouble = f"{type(error).__name__}: {error}"[:300]
    finally:
        case.end()
        count.left = len(left(case.environment[TOKEN]))
    if not count.bad:
        shutil.rmtree(case.victim.folder)


def in_namespace(kind: str, share: int, seed: int, out: Path) -> None:
    """The campaign of a kind that mounts a disk."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, __file__]
    command += ["--kinds", kind, "--kills", str(share), "--seed", str(seed), "--out", str(out)]
    process = subprocess.Popen(command, env={**os.environ, MOUNTS: "1"}, stdout=subprocess.DEVNULL)
    try:
        process.wait()
    except BaseException:
        process.terminate()  # it ends what it has started
        process.wait()
        raise


def ended(number: int, frame: object) -> NoReturn:
    """End on SIGTERM as on an error: what was started is ended first."""
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign, or go on with it, and print its table."""
    parser = argparse.ArgumentParser(
        prog="python bench/faults.py", description="Do harm to studies and count the cost."
    )
    parser.add_argument("--kills", type=int, default=300, help="over all kinds together")
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help="separated by commas (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="keep what was written there (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, default=Path("data/reports/faults.csv"))
    parser.add_argument("--list", action="store_true", help="say what the kinds are")
    given = parser.parse_args(argv)
    if given.list:
        for name, kind in KINDS.items():
            print(f"| `{name}` | {kind.about} |")
        return 0
    kinds = given.kinds.split(",")
    if unknown := [k for k in kinds if k not in KINDS]:
        parser.error(f"there is no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    signal.signal(signal.SIGTERM, ended)
    with tempfile.TemporaryDirectory() as temporary, closing(Nursery()) as nursery:
        for k, kind in enumerate(kinds):
            share = given.kills // len(kinds) + (k < given.kills % len(kinds))
            mine = [
                line for line in read(given.out) if (line.kind, line.seed) == (kind, given.seed)
            ]
            done = sum(line.kills for line in mine)
            if done >= share:
                continue
            if KINDS[kind].mounted and MOUNTS not in os.environ:
                in_namespace(kind, share, given.seed, given.out)
                continue
            folder = (given.folder or Path(temporary)) / kind
            campaign(kind, share - done, len(mine), given.seed, folder, given.out, nursery)
    lines = [line for line in read(given.out) if line.kind in kinds]
    print(table(lines, kinds))
    for line in lines:
        if line.trouble:
            print(f"{line.kind} {line.study}: {line.trouble}")
    return 1 if any(line.bad for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
