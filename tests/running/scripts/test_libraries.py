"""Training libraries as they come, where they are installed: killed, resumed, paused, continued.

bench/libraries has their scripts, and a longer run.
"""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from foretune.study.study import Study

PATH = Path(__file__).resolve().parents[3] / "bench" / "libraries" / "run.py"
spec = importlib.util.spec_from_file_location("bench_libraries", PATH)
assert spec is not None and spec.loader is not None
libraries = importlib.util.module_from_spec(spec)
spec.loader.exec_module(libraries)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", ["keras", "lightning", "ultralytics"])
def test_a_study_is_killed_and_goes_on(library, tmp_path, monkeypatch):
    """Nothing outlives foretune, no trial fails, and the curve of a trial that was paused is that
    of the library alone. Ultralytics draws its images anew when it goes on: there the first epochs
    are compared.
    """
    pytest.importorskip(library)
    pytest.importorskip("jsonargparse" if library == "lightning" else library)
    monkeypatch.setattr(libraries, "KILLED_AT", 2)
    if library == "ultralytics":
        digits = [sys.executable, str(PATH.with_name("digits.py")), "low", str(tmp_path / "low")]
        subprocess.run(digits, check=True)
    line = libraries.arguments(library, sys.executable, "low", tmp_path, 8)
    folder = tmp_path / "data" / "studies" / "low"
    assert libraries.killed(line, folder, tmp_path)["left_running"] == []
    libraries.finished(line)
    study = Study.load(folder)
    assert study.spent == 8 and not study.failures
    steps = Counter(step["config_id"] for step in study.steps)
    paused = max(study.started, key=lambda c: (steps[c], study.epoch[c]))
    assert steps[paused] > 1
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    read = libraries.LIBRARIES[library][1]
    read = read[1] if read[0] == "--read" else study.plan.notes.extra["read"]
    whole = libraries.alone(study, paused, best["command"], read, tmp_path)
    values = [row[study.plan.metric] for row in study.rows[paused]]
    compared = 1 if library == "ultralytics" else len(values)
    assert values[:compared] == pytest.approx(whole[:compared], abs=1e-6)
