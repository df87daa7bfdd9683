"""Which stages are fitted again, and what a failing one says; with a stand-in for DVC, which is
slow to start.
"""

from pathlib import Path

import meta_train as module
import pytest
from meta_train import StageFailed, chosen, main, meta_train, own_models, repro

from foretune.errors import BadInput

PIPELINE = """
stages:
  tasks: {cmd: x, outs: [data/images: {persist: true}]}
  recommenders: {cmd: x, outs: [src/foretune/shipped/models/a, src/foretune/shipped/models/b: {cache: false}]}
  evaluate: {cmd: x, outs: [data/reports/light]}
  surrogates: {cmd: x, outs: [src/foretune/shipped/models]}
  other: {cmd: x}
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline, and a module `dvc` that says what it was asked for."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.py").write_text(
        "import sys\nprint('\\n'.join(f'line {i}' for i in range(30)))\n"
        "stage = sys.argv[-1]\nprint(*sys.argv[1:])\n"
        "if stage == 'other': sys.exit(3)\n"
        "if stage == 'surrogates': print(\"Running stage 'surrogates':\")\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stages_that_write_models_are_chosen_in_the_order_of_the_pipeline(pipeline: Path) -> None:
    assert chosen("", pipeline) == ["recommenders", "surrogates"]
    assert chosen("surrogates, evaluate", pipeline) == ["evaluate", "surrogates"]


def test_unknown_stages_and_broken_pipelines_are_refused(pipeline: Path) -> None:
    with pytest.raises(BadInput, match="no stage 'fit'; there are tasks, recommenders"):
        chosen("fit", pipeline)
    (pipeline / "dvc.yaml").write_text("stages: {tasks: {cmd: x, outs: [data/images]}}")
    with pytest.raises(
        BadInput,
        match="no stage that writes to src/foretune/shipped/models; name the stages to run: tasks",
    ):
        chosen("", pipeline)
    (pipeline / "dvc.yaml").write_text("- 1")
    with pytest.raises(BadInput, match="cannot be read as a DVC pipeline"):
        chosen("", pipeline)


def test_a_stage_tells_whether_it_ran_and_why_it_failed(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repro.fn("surrogates", folder=str(pipeline)) is True
    assert "repro --single-item surrogates" in capsys.readouterr().out
    assert repro.fn("recommenders", upstream=True, folder=str(pipeline)) is False
    assert "repro recommenders" in capsys.readouterr().out
    with pytest.raises(StageFailed, match="dvc repro other ended with exit code 3") as raised:
        repro.fn("other", folder=str(pipeline))
    assert "line 29" in str(raised.value) and "line 10\n" not in str(raised.value)


def test_bad_input_is_said_before_a_server_starts(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--stages", "fit"]) == 2
    assert capsys.readouterr().err.startswith("error: dvc.yaml has no stage 'fit'")


def test_models_of_ones_own_are_fitted_after_the_stages_even_where_one_fails(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def stage(name: str, upstream: bool, folder: str) -> bool:
        done.append(name)
        return repro.fn(name, upstream, folder)

    def own(folder: str) -> list[str]:
        done.append("own")
        return ["studies/mine"]

    monkeypatch.setattr(module, "repro", stage)
    monkeypatch.setattr(module, "own_models", own)
    assert meta_train.fn(folder=str(pipeline)) == ["surrogates", "studies/mine"]
    assert meta_train.fn(own=False, folder=str(pipeline)) == ["surrogates"]
    assert done == ["recommenders", "surrogates", "own", "recommenders", "surrogates"]
    with pytest.raises(StageFailed):
        meta_train.fn("other", folder=str(pipeline))
    assert done[-1] == "own"


def test_models_of_ones_own_read_the_folders_parameters(pipeline: Path) -> None:
    with pytest.raises(BadInput, match=r"params\.yaml"):
        own_models.fn(str(pipeline))
