"""Other libraries beside foretune's searchers, on the same tables, epochs counted alike.

    python bench/run.py [--peers optuna,smac,dehb,neps] [--methods random,hyperband,...]
        [--table FOLDER] [--tasks 3] [--seeds 3] [--budget 255]

Each peer runs in an environment of its own under `.cache/bench` (made with uv at the first run; the
user's own package index), as a process that reads the pool of a task as JSON (`bench/peers/`). A
peer that cannot be installed is left out, saying so. Runs that were made are kept in
`.cache/bench/runs` and not repeated. Prints, and writes to `data/reports/field/peers.csv`, one
table: mean normalized regret after 1, 2, 5, 10 and 20 full trainings and at the whole budget, its
standard error over tasks, and milliseconds per decision (median over steps, of wall-clock, on this
machine).
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher
from foretune.shipped import LIGHT

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
PEERS = {  # peer -> (packages, script)
    "optuna": (("optuna==5.0.0",), "optuna_tpe.py"),
    "smac": (("smac==2.4.1",), "smac_mf.py"),
    "dehb": (("dehb", "ConfigSpace"), "dehb_de.py"),
    "neps": (("neural-pipeline-search==0.17.0",), "neps_asha.py"),
}
OURS = "random,hyperband,asha,bohb,dehb,hyperband-gp,freeze-thaw,dyhpo"
PATIENCE = 900  # seconds that one run of a peer may take
Trace = list[tuple[int, float, float]]  # epochs spent, best value, seconds of the decision


def environment(peer: str) -> Path | None:
    """The Python of a peer's environment, made if need be.

    None if its packages cannot be installed.
    """
    folder = CACHE / peer
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not Path(uv).exists():
        raise BadInput("bench needs uv to make the environments of other libraries: pip install uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "numpy", *PEERS[peer][0]],
        env={**os.environ, "VIRTUAL_ENV": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{peer}: left out, it cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    (folder / "ready").touch()
    return python


def pool_file(meta: MetaDataset, task: str) -> Path:
    """The pool of a task as a peer reads it."""
    x = meta.space.encode(meta.configs)
    low, high = x.min(axis=0), x.max(axis=0)
    x = (x - low)[:, high > low] / (high - low)[high > low]
    curves = [[None if np.isnan(v) else float(v) for v in row] for row in meta.curves(task)]
    text = json.dumps({"x": x.tolist(), "curves": curves})
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = CACHE / "pools" / f"{meta.name}-{task}-{digest}.json".replace(" ", "-")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    return path


def peer_run(peer: str, pool: Path, seed: int, budget: int) -> Trace | None:
    """The trace of one run of a peer, from the cache if it was made before.

    None if it failed (its last words are printed).
    """
    kept = CACHE / "runs" / f"{peer}-{pool.stem}-{seed}-{budget}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    python = environment(peer)
    if python is None:
        return None
    script = ROOT / "bench" / "peers" / PEERS[peer][1]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [str(python), str(script), str(pool), str(seed), str(budget)],
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{peer}: seed {seed} took more than {PATIENCE} s")
        return None
    if done.returncode:
        print(f"{peer}: failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    trace = json.loads(done.stdout.strip().splitlines()[-1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(trace))
    return trace


def our_run(method: str, meta: MetaDataset, task: str, seed: int, budget: int) -> Trace:
    """The trace of one of foretune's searchers, without past tasks."""
    study, objective = replay_study(meta, task, budget=budget, seed=seed, sources=[], method=method)
    steps = replay(study, objective, searcher(method), Score(meta, task))
    return [
        (
            s["spent"],
            -np.inf if s["incumbent"] is None else meta.sign * s["incumbent"],
            s["seconds"],
        )
        for s in steps
    ]


def row(name: str, runs: list[tuple[Score, Trace]], budgets: Sequence[int]) -> dict[str, object]:
    """A method's line of the table."""
    regret = []
    for score, trace in runs:
        spent = np.array([t[0] for t in trace])
        at = np.searchsorted(spent, budgets, side="right") - 1
        found = [-np.inf if k < 0 else trace[k][1] for k in at]
        regret.append([min(1.0, score.normalized(max(0.0, score.best - v))) for v in found])
    milliseconds = [1000 * t[2] for _, trace in runs for t in trace]
    per_task = (
        pd.DataFrame(regret, columns=[str(b) for b in budgets])
        .groupby([id(score) for score, _ in runs])
        .mean()
    )
    values = (
        per_task.mean().round(4).to_dict() | per_task.sem().round(4).add_suffix(" se").to_dict()
    )
    ms = {
        "ms": round(float(np.median(milliseconds)), 2),
        "ms p95": round(float(np.quantile(milliseconds, 0.95)), 1),
    }
    return {"method": name, **values, **ms, "runs": len(runs)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=main.__doc__)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--methods", default=OURS)
    parser.add_argument(
        "--table",
        type=Path,
        help="meta-dataset folder (default: LCBench beside the checkout, else our own)",
    )
    parser.add_argument(
        "--tasks",
        default="3",
        help="how many tasks, evenly spread over the sorted names, or their names",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=255)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "data" / "reports" / "field" / "peers.csv"
    )
    args = parser.parse_args(argv)
    published = ROOT.parent / "shared" / "data" / "curves" / "lcbench"
    meta = MetaDataset.load(args.table or (published if published.is_dir() else LIGHT))
    names = sorted(meta.tasks)
    if args.tasks.isdigit():
        tasks = [
            names[k]
            for k in np.linspace(0, len(names) - 1, min(int(args.tasks), len(names))).astype(int)
        ]
    else:
        tasks = args.tasks.split(",")
    budgets = [b for k in (1, 2, 5, 10, 20) if (b := k * meta.max_epoch) < args.budget] + [
        args.budget
    ]
    runs: dict[str, list[tuple[Score, Trace]]] = {}
    for task in tasks:
        score = Score(meta, task)
        pool = pool_file(meta, task)
        for seed in range(args.seeds):
            for peer in filter(None, args.peers.split(",")):
                if peer not in PEERS:
                    raise BadInput(f"unknown peer {peer!r}; there are {', '.join(PEERS)}")
                if trace := peer_run(peer, pool, seed, args.budget):
                    runs.setdefault(f"{peer} (peer)", []).append((score, trace))
            for method in filter(None, args.methods.split(",")):
                runs.setdefault(method, []).append(
                    (score, our_run(method, meta, task, seed, args.budget))
                )
    table = pd.DataFrame([row(name, found, budgets) for name, found in runs.items()]).sort_values(
        str(args.budget)
    )
    print(
        f"{meta.name}: {', '.join(tasks)}; {args.seeds} seeds; mean normalized regret after "
        "so many epochs"
    )
    print(table.drop(columns=[c for c in table if str(c).endswith(" se")]).to_string(index=False))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out, table.to_csv(index=False))


if __name__ == "__main__":
    main()
