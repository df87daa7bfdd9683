"""`foretune recommend`: what it prints and writes, and what it refuses."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from recommended import data_folder, picture_task, ranking_of

from foretune.commands.cli import main
from foretune.recommenders.past import Past
from foretune.recommenders.recommendation import Recommendation
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study
from foretune.training.settings import Settings
from foretune.views.summary import number


@pytest.fixture
def data(tmp_path, meta):
    return data_folder(tmp_path, meta)


def test_best_of_the_portfolio_comes_first_and_a_page_is_written(data, meta, capsys):
    assert (
        main(["recommend", "new", "--recommender", "portfolio", "--data", str(data), "--top", "2"])
        == 0
    )
    out = capsys.readouterr().out
    assert "looks at no images" in out and "new: 24 images, 2 classes" in out
    first = Past.of(meta).portfolio()[0]
    shown = out.split("  1  ")[1].splitlines()[0]
    assert all(number(value) in shown for value in meta.configs[first].values())
    assert out.count("leans on") == 0
    (file,) = (data / "recommendations").glob(
        "new-*-portfolio.html"
    )  # between them the images' hash: two folders may share a name
    page = file.read_text()
    # two each, of two suggestions
    assert page.count("did best on") == page.count("did worst on") == 4
    assert page.count("all 5 past tasks count alike in this list") == 2
    assert "what to try first" in page and page.count("data:image/png") == 1


def test_two_folders_of_one_name_have_a_page_each(data, tmp_path, capsys):
    for k, parent in enumerate(("here", "there")):
        for label in ("cat", "dog"):
            folder = tmp_path / parent / "photos" / label
            folder.mkdir(parents=True)
            for i in range(6):
                noise = np.random.default_rng([k, i, ord(label[0])]).integers(
                    0, 256, (16, 16, 3), dtype=np.uint8
                )
                Image.fromarray(noise).save(folder / f"{i}.png")
        command = [
            "recommend",
            str(tmp_path / parent / "photos"),
            "--recommender",
            "portfolio",
            "--data",
            str(data),
        ]
        assert main(command) == main(command) == 0
    pages = sorted((data / "recommendations").glob("photos-*-portfolio.html"))
    printed = {
        line.split()[-1]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("page:")
    }
    assert len(pages) == 2 and printed == {str(page) for page in pages}


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("", "name is empty"),
        ("nowhere", "there is no such folder"),
        ("a.txt", "is a file"),
        ("empty", "is empty"),
        ("one", "has 1 class folder"),
        ("broken", "broken/cat/1.png: is no image"),
    ],
)
def test_wrong_images_are_one_line_that_names_them(
    data, tmp_path, monkeypatch, images, said, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    for folder in ("one/cat", "broken/cat", "broken/dog"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            colour = (60 * i, len(folder), 0)
            Image.new("RGB", (16, 16), colour).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "broken/cat/1.png").write_bytes((tmp_path / "broken/cat/1.png").read_bytes()[:40])
    assert main(["recommend", images, "--data", str(data), "--recommender", "portfolio"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (data / "recommendations").exists()


def test_json_holds_configurations_and_reasons(data, meta, capsys):
    assert (
        main(
            [
                "recommend",
                "new",
                "--recommender",
                "mean-rank",
                "--data",
                str(data),
                "--top",
                "3",
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found["ranking"]) == 3 and found["ranking"][0]["config"] in meta.configs
    assert not (data / "recommendations").exists()


def test_explained_ranking_names_the_past_runs_and_their_places(meta, data):
    from foretune.commands.recommend import html, lines

    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    text = "\n".join(lines(found, 3, True))
    best = found.rows[0]
    reason = best.reasons[0]
    assert f"there it was number {reason.rank + 1} of {len(meta)}" in text
    assert text.count("leans on") == 12 and "± " in text
    assert reason.task == meta.tasks[0] and reason.rank == int(Past.of(meta).ranks[0, best.row])
    page = html(found, data, 3, "my photos")
    assert page.count("there it was number") == 12
    # the answer, and what to type, before the reasons and the neighbours
    order = [
        "foretune tune &#39;my photos&#39; --budget",
        "in the order to try them",
        "Nearest past",
    ]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert page.count('data-label="why"') == 3


def test_a_list_moved_by_images_is_explained_as_what_it_is(meta, data):
    """Where a configuration did badly is shown as well as where it did well, and the images' part
    apart from both.
    """
    from foretune.commands.recommend import as_json, lines

    found = Recommendation(picture_task(), meta, ranking_of(meta, residual=True), "hyperstar")
    text = "\n".join(lines(found, 3, True))
    assert (
        text.count("in the mean list of all 5 past tasks, which count alike") == 3
        and "leans on" not in text
    )
    first, ranks = found.rows[0], Past.of(meta).ranks[:, found.rows[0].row]
    assert (
        f"did best on {meta.tasks[ranks.argmin()]}: there it was number {ranks.min() + 1} of 40"
        in text
    )
    assert f"number {ranks.max() + 1} of 40" in text and text.count("did worst on") == 6
    assert (
        first.from_images is not None
        and first.from_images == found.explanation.image_effect[first.row]
    )
    assert (
        f"the images add {100 * first.from_images:+.2f} percentage points of {meta.metric}" in text
    )
    told = as_json(found, 1)
    assert (
        set(told["leans"].values()) == {0.2}
        and told["ranking"][0]["from_images"] == first.from_images
    )
    assert {r["said"] for r in told["ranking"][0]["because"]} == {"best", "worst"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top", "0"], "--top 0"),
        (["--recommender", "oracle"], "unknown recommender 'oracle'"),
        (["--recommender", "tr-automl"], "must train ten configurations on the new task first"),
        (["--meta", "nowhere"], "nowhere"),
        (["--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(data, options, said, capsys):
    assert (
        main(["recommend", "new", "--data", str(data), "--recommender", "portfolio", *options]) == 2
    )
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_json_with_a_page_is_refused(data, capsys):
    command = ["recommend", "new", "--data", str(data), "--recommender", "portfolio"]
    assert main([*command, "--json", "--out", str(data / "x.html")]) == 2
    assert main([*command, "--out", str(data / "nowhere" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_own_studies_that_the_list_does_not_know_are_named_with_why(data, meta, capsys):
    for name, settings in (("bigger", {"image_size": 96}), ("equal", {})):
        plan = Plan(
            task=name,
            metric=meta.metric,
            goal=meta.goal,
            max_epoch=meta.max_epoch,
            budget=meta.max_epoch,
            notes=Notes(task_hash=name, settings={**asdict(Settings()), **settings}),
        )
        with Study(meta.space, meta.configs[:2], plan, folder=data / "studies" / name) as study:
            study.tell(Step(0, 0, meta.max_epoch), [0.5] * meta.max_epoch)
            study.save_tables()
    command = ["recommend", "new", "--recommender", "portfolio", "--data", str(data)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (
        f"own studies not in the list: bigger (image_size 96, now {Settings().image_size}), "
        "equal (not fitted yet: python -m foretune.running.meta_train)"
    ) in said
    assert main([*command, "--no-own-studies"]) == 0
    assert "not in the list" not in capsys.readouterr().out


def test_minutes_are_the_cost_models_for_the_past_tasks_settings(meta, data):
    """Ten epochs, the first of which computes what is kept: by hand for the first suggestion."""
    from dataclasses import replace as changed

    from foretune.commands.recommend import as_json, minutes_of, training_settings
    from foretune.training.cost import Parts, epoch_seconds, first_epoch_seconds, machine_of
    from foretune.training.recipe import recipe

    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    light = {"learning_rate": 1e-3, "optimizer": "adam", "finetune": "last_blocks"}
    row = changed(found.rows[0], config=light)
    settings = training_settings(found)
    split = found.task.split
    parts = Parts(min(400, int((split == 0).sum())), min(300, int((split == 1).sum())))
    machine = machine_of(settings, cuda=False)
    how = recipe(light, settings), settings, parts, machine
    seconds = first_epoch_seconds(*how) + (settings.max_epoch - 1) * epoch_seconds(*how)
    if not __import__("torch").cuda.is_available():
        assert minutes_of(found, [row]) == [pytest.approx(seconds / 60)]
    # a configuration that the trainer does not know costs what nobody knows
    strange = changed(row, config={"learning_rate": 1e-3, "colour": "red"})
    assert minutes_of(found, [strange]) == []
    assert {"minutes"} <= set(as_json(found, 2)["ranking"][0])


def test_for_another_trainer_the_first_runs_are_command_lines(data, capsys):
    command = ["recommend", "new", "--recommender", "portfolio", "--data", str(data)]
    assert main([*command, "--for", "lightning"]) == 0
    out = capsys.readouterr().out
    assert out.count("python main.py fit --") == 3 and "confidence: low" in out
    assert "in the place of IMAGES" not in out  # lightning's images are its DataModule's
    assert not (data / "recommendations").exists()
    assert main([*command, "--for", "lightning", "--json", "--epochs", "7"]) == 0
    found = json.loads(capsys.readouterr().out)
    places = [run["place"] for run in found["runs"]]
    assert len(places) == 3 and places == sorted(places) and places[0] == 1
    assert found["passed_over"] == places[-1] - 3
    assert all("--trainer.max_epochs 7" in run["command"] for run in found["runs"])
    assert all(run["because"] and run["arguments"][0] == "python" for run in found["runs"])
    assert found["confidence"] == "low" and found["notes"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--for", "timn"], "did you mean timm"),
        (["--network", "resnet18"], "give --for too"),
        (["--for", "timm", "--out", "page.html"], "leave out --out"),
    ],
)
def test_for_a_trainer_wrong_input_is_one_line(data, more, said, capsys):
    command = ["recommend", "new", "--recommender", "portfolio", "--data", str(data)]
    assert main([*command, *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
