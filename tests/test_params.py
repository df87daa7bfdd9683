"""`params.yaml` as dataclasses."""

from pathlib import Path

import pytest

from foretune import shipped
from foretune.errors import BadInput
from foretune.params import Params, load, main
from foretune.training.recipe import Settings

ROOT = Path(__file__).resolve().parents[1]


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_the_repository_file_is_valid_and_says_everything() -> None:
    """No default hides: each key of each section is in the file."""
    import yaml

    given = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = load(ROOT / "params.yaml")
    for section, kind in Params.__dataclass_fields__.items():
        assert set(given[section]) == set(getattr(params, section).__dataclass_fields__), kind
    assert params.demo.task in params.meta_dataset.held_out
    assert ROOT / params.meta_dataset.folder == shipped.LIGHT
    assert ROOT / params.recommenders.folder == shipped.FOLDER / "models"


def test_sections_become_dataclasses(tmp_path: Path) -> None:
    params = load(
        written(
            tmp_path,
            "training: {max_epoch: 3, pretrained: false}\nmeta_dataset: {held_out: [a, b]}\n",
        )
    )
    assert params.training == Settings(max_epoch=3, pretrained=False)
    assert params.meta_dataset.held_out == ("a", "b")
    assert params.evaluate == Params().evaluate


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing\n")) == Params()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trainning: {}", "unknown key 'trainning'; known are tasks, training"),
        ("training: {epochs: 3}", "training: unknown key 'epochs'"),
        ("training: {max_epoch: ten}", "training: max_epoch must be a whole number, but got 'ten'"),
        ("training: {max_epoch: true}", "must be a whole number, but got True"),
        ("training: {max_epoch: 0}", "max_epoch must be 1 or more, but got 0"),
        ("training: 3", "must be a mapping"),
        ("training: {fix: 3}", "training: fix must be a mapping of names to values, but got 3"),
        ("training: {weights: 3}", "training: weights must be a text, but got 3"),
        ("evaluate: {methods: random}", "evaluate: methods must be a list, but got 'random'"),
        ("evaluate: {seeds: 0}", "evaluate.seeds is 0; 1 or more would be right"),
        ("demo: {task: chess}", "the demo must tune a task that the meta-dataset has not seen"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match="params.yaml|demo.task|evaluate.seeds|setting") as caught:
        load(written(tmp_path, text))
    assert says in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        load(tmp_path / "params.yaml")


def test_printing_one_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, "meta_dataset: {held_out: [a, b]}\ndemo: {task: a}\n"))
    assert [
        main([name, "--file", path])
        for name in ("demo.task", "meta_dataset.held_out", "demo.minutes")
    ] == [0, 0, 0]
    assert capsys.readouterr().out.splitlines() == ["a", "a,b", "2"]
    assert main(["demo.nothing", "--file", path]) == 2
    assert "has no parameter 'demo.nothing'" in capsys.readouterr().err
