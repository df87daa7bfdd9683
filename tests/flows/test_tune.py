"""Tuning as a Prefect flow."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pandas as pd
import pytest
import toy

from foretune.errors import BadInput
from foretune.running.workers import Died, Ended
from foretune.study.outcome import Outcome
from foretune.study.plan import Step
from foretune.study.study import Study

from .conftest import TINY


class Toy:
    """An objective that waits, kills its process, or answers, as its configuration says."""

    def run(
        self, config_id: int, config: dict[str, Any], start: int, stop: int, on_epoch: Any = None
    ) -> Outcome:
        if config["x"] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if config["x"] == 0:
            raise BadInput("x must not be 0")
        return Outcome([{"epoch": e, "score": config["x"] * e} for e in range(start + 1, stop + 1)])


def collected(workers: Any, seconds: float = 120.0) -> list[Any]:
    """All events until nothing is under way."""
    out, until = [], time.monotonic() + seconds
    while workers.free < workers.count and time.monotonic() < until:
        out += workers.events(0.5)
    return out


@pytest.mark.slow
def test_workers_run_steps_and_outlive_a_killed_process(prefect_server: None) -> None:
    from tune import PrefectWorkers

    workers = PrefectWorkers(Toy(), 1)
    try:
        workers.submit(Step(4, 1, 3), {"x": 2.0})
        assert workers.free == 0
        (ended,) = collected(workers)
        assert ended == Ended(
            Step(4, 1, 3), Outcome([{"epoch": 2, "score": 4.0}, {"epoch": 3, "score": 6.0}])
        )
        workers.submit(Step(5, 0, 1), {"x": -1.0})
        (died,) = collected(workers)
        assert isinstance(died, Died)
        assert died.step.config_id == 5
        workers.submit(Step(6, 0, 1), {"x": 0.0})  # on a new pool
        (ended,) = collected(workers)
        assert ended == Ended(Step(6, 0, 1), Outcome([], "x must not be 0"))
    finally:
        workers.close()
    assert workers.free == 1


@pytest.mark.slow
def test_a_step_that_meets_no_server_begins_again_when_there_is_one(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect ends such a task run with SystemExit, which none of its futures hands on: without our
    exception this waits for ever.
    """
    import tune
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = str(PREFECT_API_URL.value())
    waited: list[float] = []
    monkeypatch.setattr(tune, "await_server", lambda: waited.append(time.monotonic()))
    workers = tune.PrefectWorkers(Toy(), 1)
    try:
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody is there
            workers.submit(Step(0, 0, 1), {"x": 1.0})
            until = time.monotonic() + 120
            monkeypatch.setattr(
                workers, "submit", lambda step, config: waited.append(step.config_id)
            )
            while len(waited) < 2:
                assert time.monotonic() < until
                assert workers.events(0.5) == []
        assert waited[1] == 0
        monkeypatch.undo()
        assert str(PREFECT_API_URL.value()) == address
        workers.close()
        workers.submit(Step(0, 0, 1), {"x": 1.0})
        assert collected(workers) == [Ended(Step(0, 0, 1), Outcome([{"epoch": 1, "score": 1.0}]))]
    finally:
        workers.close()


@pytest.mark.slow
def test_a_study_as_a_flow_is_continued_by_the_next_run(prefect_server: None, data: Path) -> None:
    from tune import tune

    given: dict[str, Any] = {
        "data": str(data),
        "meta": "none",
        "settings": TINY,
        "tracking": "none",
        "method": "random",
        "study": "s",
        "workers": 1,
    }
    tune("a", budget=2, **given)
    tune("a", budget=4, **given)
    tuned = tune("a", budget=6, runner="local", **given)
    study = Study.load(data / "studies" / "s")
    assert study.spent == 6
    assert [e for _, e in study.order] == [1, 2, 1, 2, 1, 2]
    assert tuned.best == study.configs[study.incumbent[0]]
    assert (tuned.folder / "report.html").stat().st_size > 10_000
    curves = pd.read_parquet(data / "studies" / "s" / "curves.parquet")
    assert not curves.duplicated(["config_id", "epoch"]).any()


def test_a_run_links_to_the_live_page_of_its_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page answers while the study runs; afterwards the link is the command that shows it."""
    import tune

    told: list[str] = []
    monkeypatch.setattr(tune, "write_artifact", lambda key, text, about: told.append(text))
    folder = tmp_path / "data" / "studies" / "toy"
    with toy.toy_study(folder, toy.toy_pool(5), 10), tune.live(folder):
        (address,) = re.findall(r"\]\((http://127\.0\.0\.1:\S+)\)", told[-1])
        with urlopen(address, timeout=10) as page:
            assert page.status == 200 and b"toy" in page.read()
    assert len(told) == 2 and f"foretune watch toy --data {tmp_path / 'data'}" in told[-1]
    with pytest.raises(OSError, match="refused"):
        urlopen(address, timeout=10)


def test_no_page_holds_up_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tune

    with tune.live(tmp_path / "data" / "studies" / "nowhere"):
        pass
    assert "no live page" in capsys.readouterr().err


def test_bad_input_is_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    import tune

    monkeypatch.setattr(tune, "prefect_api", nullcontext)  # no server is needed to refuse
    monkeypatch.setattr(tune, "tune", tune.tune.fn)
    assert (
        tune.main(["no/such/folder", "--data", str(data), "--meta", "none", "--tracking", "none"])
        == 2
    )
    found = capsys.readouterr().err
    assert "no/such/folder" in found
    assert found.count("\n") == 1
