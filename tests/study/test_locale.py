"""A study with names beyond ASCII, where the locale knows ASCII alone."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import locale, sys
from ConfigSpace import Categorical, ConfigurationSpace
from foretune.commands.cli import main
from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Space
from foretune.study.plan import Plan, Step
from foretune.study.study import Study

assert locale.getpreferredencoding(False) not in ("utf-8", "UTF-8")
space = Space(ConfigurationSpace({"saison": Categorical("saison", ["été", "hiver"])}))
plan = Plan("café", "précision", "maximize", max_epoch=2, budget=4, open=True)
folder = sys.argv[1] + "/studies/a"
study = Study(space, [], plan, folder=folder)
if not study.spent:
    study.tell(Step(study.propose({"saison": "été"}), 0, 2), [0.25, 0.5])
    study.save_tables()
back, table = Study.load(folder), MetaDataset.load(folder)
assert (back.plan.task, back.configs) == ("café", [{"saison": "été"}])
assert (table.tasks, table.metric, table.configs) == (["café"], "précision", back.configs)
sys.exit(main(["studies", "--data", sys.argv[1]]))
"""


def test_names_beyond_ascii_survive_an_ascii_locale(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for _ in range(2):  # the second goes on with what the first wrote
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path)],
            env={**os.environ, **ascii_only},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert b"caf?" in done.stdout and b"2/4" in done.stdout
