"""Training libraries as they come, where they are installed: killed, resumed, paused, continued.

bench/libraries has their scripts, and a longer run.
"""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from foretune.study.study import Study

PATH = Path(__file__).resolve().parents[3] / "bench" / "libraries" / "run.py"
spec = importlib.util.spec_from_file_location("bench_libraries", PATH)
assert spec is not None and spec.loader is not None
libraries = importlib.util.module_from_spec(spec)
spec.loader.exec_module(libraries)


def test_an_epoch_told_in_each_checkpoint_counts_once(tmp_path):
    """The Trainer keeps two checkpoints, each with all results until then."""
    for step, told in (("76", [0.4, 0.7]), ("114", [0.4, 0.7, 0.8])):
        (tmp_path / f"checkpoint-{step}").mkdir()
        history = [{"epoch": k + 1.0, "eval_accuracy": v} for k, v in enumerate(told)]
        state = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        state.write_text(json.dumps({"log_history": history}))
    read = "checkpoint-*/trainer_state.json:eval_accuracy"
    assert libraries.curve(read, tmp_path) == [0.4, 0.7, 0.8]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", ["keras", "lightning", "transformers", "ultralytics"])
def test_a_study_is_killed_and_goes_on(library, tmp_path, monkeypatch):
    """Nothing outlives foretune, no trial fails, and the curve of a trial that was paused is that
    of the library alone, which Ultralytics, whose random state starts anew and whose checkpoints
    lack the weights in training, is only where it is stopped and resumed by itself after the same
    epochs.
    """
    # not imported here: Keras would be refused without TensorFlow, where its script names a backend
    needed = [library, "jsonargparse"] if library == "lightning" else [library]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(libraries, "KILLED_AT", 2)
    if library == "ultralytics":
        digits = [sys.executable, str(PATH.with_name("digits.py")), "low", str(tmp_path / "low")]
        subprocess.run(digits, check=True)
    line = libraries.arguments(library, sys.executable, "low", tmp_path, 8)
    folder = tmp_path / "data" / "studies" / "low"
    assert libraries.killed(line, folder, tmp_path)["left_running"] == []
    cut = {c: len(told) for c, told in Study.load(folder).rows.items()}  # epochs told by then
    libraries.finished(line)
    study = Study.load(folder)
    assert study.spent == 8 and not study.failures
    steps = Counter(step["config_id"] for step in study.steps)
    paused = max(study.started, key=lambda c: (steps[c], study.epoch[c]))
    assert steps[paused] > 1
    values = [row[study.plan.metric] for row in study.rows[paused]]
    # where the library's own resume draws anew: against one that is stopped and resumed by hand
    stops = [step["stop"] for step in study.steps if step["config_id"] == paused][:-1]
    ways = [stops if library in libraries.ANEW else []]
    if library in libraries.ANEW and cut.get(paused) in stops:
        # killed between the epoch and the keeping of its checkpoint, it went on from the one before
        ways.append([stop for stop in stops if stop != cut[paused]])
    wholes = (libraries.alone(study, paused, tmp_path, way)[: len(values)] for way in ways)
    assert any(values == pytest.approx(whole, abs=1e-6) for whole in wholes)
