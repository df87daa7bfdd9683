"""A stranger's training script: an epoch is a moment, its accuracy a number of the learning rate.

It writes results.csv and, after it (or `--first`: before it), last.json, and goes on from there.
`--ill` names what it does wrong.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def curve(rate: float, epochs: int) -> list[float]:
    """What it reports when nothing interrupts it."""
    w, out = 0.0, []
    for _ in range(epochs):
        w = 0.8 * w + rate
        out.append(math.tanh(w))
    return out


def misbehave(ill: str, out: Path, epoch: int) -> None:
    """What goes wrong when `epoch` epochs are done."""
    match ill, epoch:
        case "crash at once", 0:
            sys.exit("no such data set")
        case "crash later", 2:
            raise RuntimeError("the labels do not fit")
        case "out of memory", 1:
            sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
        case "killed", 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "native crash", 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang", 1:
            time.sleep(600)
        case "chatter", 1:
            while True:
                print("still at it", flush=True)
                time.sleep(0.02)
        case "no result", 0:
            (out / "model.bin").write_bytes(b"weights")
            sys.exit(0)
        case "too few", 2:
            sys.exit(0)
        case "flood", 1:
            for _ in range(60):
                print("x" * 99_999)
        case "bytes", 1:
            sys.stdout.buffer.write(bytes(range(256)) * 40 + b"\n")
        case "orphan", 1:
            code = "import time; time.sleep(600)"
            child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            (out / "orphan").write_text(str(child.pid), encoding="utf-8")


def save(path: Path, state: dict, stall: float) -> None:
    """Write the checkpoint, and stand still in the middle of it."""
    text = json.dumps(state)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text[:8])
        stream.flush()
        time.sleep(stall)
        stream.write(text[8:])


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--zero", action="store_true", help="count epochs from 0")
    parser.add_argument("--first", action="store_true", help="the checkpoint before the result")
    parser.add_argument("--stall", type=float, default=0.0, help="in the middle of a checkpoint")
    parser.add_argument("--ill", default="")
    asked = parser.parse_args()
    out = asked.out
    if asked.ill == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    state = {"epoch": 0, "w": 0.0}
    if asked.resume:
        state = json.loads(asked.resume.read_text(encoding="utf-8"))
    (out / "pid").write_text(str(os.getpid()), encoding="utf-8")
    results = out / "results.csv"
    if not results.exists():
        results.write_text("epoch,loss,val_acc\n", encoding="utf-8")
    for epoch in range(state["epoch"], asked.epochs):
        misbehave(asked.ill, out, epoch)
        time.sleep(asked.pause)
        state = {"epoch": epoch + 1, "w": 0.8 * state["w"] + asked.lr}
        value = "nan" if asked.ill == "diverged" and epoch == 1 else repr(math.tanh(state["w"]))
        value = "high" if asked.ill == "a word" else value
        if asked.first:
            save(out / "last.json", state, asked.stall)
        with open(results, "a", encoding="utf-8") as stream:
            stream.write(f"{epoch + (not asked.zero)},{1 - asked.lr},{value}\n")
        print(f"epoch {epoch + 1} acc={value}", flush=True)
        if not asked.first:
            save(out / "last.json", state, asked.stall)
    if asked.ill == "deaf":
        time.sleep(600)


if __name__ == "__main__":
    main()
