"""What comes with the package, and what comes before it."""

import shutil
from pathlib import Path

import pytest

from foretune import shipped
from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.own import belongs
from foretune.recommenders.registry import load


def test_the_data_folder_comes_first(tmp_path: Path) -> None:
    assert shipped.find("meta", "light", tmp_path) == shipped.LIGHT
    (tmp_path / "meta" / "light").mkdir(parents=True)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert shipped.find("meta", "light", tmp_path) == tmp_path / "meta" / "light"
    assert shipped.need("models", "mine", tmp_path) == tmp_path / "models" / "mine"
    assert set(shipped.names("models", tmp_path)) == {"hyperstar", "mine", "siamese"}


def test_what_is_nowhere_is_named_with_what_is_there(tmp_path: Path) -> None:
    assert shipped.find("models", "portfolio", tmp_path) is None
    with pytest.raises(BadInput, match=r"models/portfolio, and none of that.*: hyperstar, siamese"):
        shipped.need("models", "portfolio", tmp_path)


def test_what_ships_belongs_together() -> None:
    """Each fitted recommender knows the tasks and configurations of the history beside it."""
    nothing = Path("nothing")
    for kind, expected in shipped.SHIPPED.items():
        assert shipped.names(kind, nothing) == list(expected)
    meta = MetaDataset.load(shipped.LIGHT)
    for name in shipped.names("models", nothing):
        assert belongs(load(shipped.FOLDER / "models" / name), meta), name


def test_replay_uses_it_in_an_empty_folder(cli, tmp_path: Path) -> None:
    """`replay` knows the shipped table by its name."""
    replayed = cli(
        *("replay", "light", "--task", "mnist", "--method", "portfolio", "--budget", 3),
        cwd=tmp_path,
    )
    assert replayed.code == 0 and '"spent": 3' in replayed.out, replayed.err
    assert not any(tmp_path.iterdir())


def test_a_folder_of_that_name_comes_before_the_shipped_table(
    cli, meta_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(meta_folder, tmp_path / "light")
    wrong = cli("replay", "light", "--task", "mnist", "--method", "portfolio", cwd=tmp_path)
    assert wrong.code == 2 and "t0, t1, t2, t3, t4" in wrong.err
