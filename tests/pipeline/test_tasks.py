"""The command that prepares embedded tasks."""

from pathlib import Path

import pytest

from foretune.pipeline.tasks import main


def test_what_cannot_be_fetched_is_reported_and_the_rest_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FORETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # the worker processes inherit it
    assert (
        main(
            [
                "animal_silhouettes",
                "digits",
                "--out",
                str(tmp_path / "out"),
                "--size",
                "16",
                "--workers",
                "1",
            ]
        )
        == 2
    )
    captured = capsys.readouterr()
    assert "error: animal_silhouettes: animal-mnist==0.4 could not be fetched" in captured.err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["digits.npz"]
