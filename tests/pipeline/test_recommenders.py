"""The recommender that ships: fitted on everything, the same files each time."""

from pathlib import Path

import pytest
import yaml

from foretune.history.meta_dataset import MetaDataset
from foretune.pipeline.recommenders import main, train
from foretune.recommenders.registry import load


def with_images(world, folder: Path) -> MetaDataset:
    for name, task in world.past.items():
        task.save(folder / "images" / f"{name}.npz")
    world.meta.save(folder / "meta")
    return world.meta


def test_it_fits_on_all_tasks_and_equal_input_gives_equal_files(world, tmp_path: Path) -> None:
    lines: list[str] = []
    for folder in ("a", "b"):
        train(world.meta, world.past, "random-forest", tmp_path / folder, say=lines.append)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert lines[0].startswith("random-forest: 14 tasks x 30 configurations, ")
    assert load(tmp_path / "a").past.tasks == tuple(world.meta.tasks)


def test_the_command(world, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_images(world, tmp_path)
    section = {"names": ["nearest-metadata"], "folder": str(tmp_path / "models")}
    params = {"meta_dataset": {"folder": str(tmp_path / "meta")}, "recommenders": section}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = [f"--params={tmp_path / 'params.yaml'}", f"--images={tmp_path / 'images'}"]
    assert main(arguments) == 0
    # a reddish task
    assert load(tmp_path / "models" / "nearest-metadata").rank(world.new[0]).order[0] < 10
    assert "14 tasks" in capsys.readouterr().out
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(params | {"recommenders": section | {"names": ["oracle"]}})
    )
    assert main(arguments) == 2
    assert "unknown recommender 'oracle'" in capsys.readouterr().err
