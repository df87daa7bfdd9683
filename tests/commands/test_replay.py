"""`foretune replay` from the outside."""

import json
from dataclasses import asdict

import pytest

from foretune.commands.cli import main
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.replay import Replay
from foretune.searchers.registry import searcher
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study
from foretune.training.recipe import Settings

FIELDS = [
    "step",
    "config_id",
    "epoch",
    "value",
    "spent",
    "incumbent",
    "regret",
    "normalized_regret",
    "recommended",
    "recommended_rank",
    "seconds",
]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def without_time(steps):
    return [{k: v for k, v in step.items() if k != "seconds"} for step in steps]


def test_a_line_per_step_with_the_documented_fields(meta, meta_folder, tmp_path, capsys):
    assert (
        main(
            [
                "replay",
                str(meta_folder),
                "--task",
                "t2",
                "--method",
                "hyperband",
                "--budget",
                "40",
                "--seed",
                "3",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == ""
    written = lines((tmp_path / "o").read_text())
    assert all(list(step) == FIELDS for step in written)
    study, objective = replay_study(meta, "t2", budget=40, seed=3, method="hyperband")
    assert without_time(written) == without_time(
        replay(study, objective, searcher("hyperband"), Score(meta, "t2"))
    )
    assert written[-1]["spent"] == 40


def test_to_standard_output_and_with_options(meta_folder, capsys):
    arguments = [
        "replay",
        str(meta_folder),
        "--task",
        "t2",
        "--method",
        "hyperband",
        "--budget",
        "12",
    ]
    main(arguments)
    three = lines(capsys.readouterr().out)
    main([*arguments, "--option", "eta=2"])
    two = lines(capsys.readouterr().out)
    assert [s["epoch"] for s in three[:3]] == [1, 1, 1] and three[-1]["spent"] == two[-1][
        "spent"
    ] == 12
    assert without_time(two) != without_time(three)


def test_the_default_budget_is_ten_full_trainings(meta_folder, capsys):
    main(["replay", str(meta_folder), "--task", "t2", "--method", "portfolio"])
    assert lines(capsys.readouterr().out)[-1]["spent"] == 90


@pytest.mark.parametrize("sources", ["t1", "t3,t4"])
def test_sources_are_handed_on(meta, meta_folder, capsys, sources):
    main(
        [
            "replay",
            str(meta_folder),
            "--task",
            "t0",
            "--method",
            "mean-rank",
            "--budget",
            "9",
            "--sources",
            sources,
        ]
    )
    got = lines(capsys.readouterr().out)
    study, objective = replay_study(
        meta, "t0", budget=9, sources=sources.split(","), method="mean-rank"
    )
    assert without_time(got) == without_time(
        replay(study, objective, searcher("mean-rank"), Score(meta, "t0"))
    )


def test_a_failing_run_leaves_an_older_output_as_it_was(meta_folder, tmp_path, capsys):
    (tmp_path / "o").write_text("older\n")
    assert (
        main(
            [
                "replay",
                str(meta_folder),
                "--task",
                "t2",
                "--method",
                "autohyper",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 2
    )
    assert (tmp_path / "o").read_text() == "older\n" and len(list(tmp_path.iterdir())) == 1


def test_published_tables_at_the_pace_of_a_scorer(cli, shared, tmp_path):
    """A whole process, start-up included, costs well under a second of processor time."""
    runs = [
        cli(
            "replay",
            shared / "data" / "curves" / "hyperrec",
            "--task",
            "CIFAR10",
            "--method",
            "portfolio",
            "--out",
            tmp_path / "o",
        )
        for _ in range(3)
    ]
    assert all(r.code == 0 for r in runs) and min(r.cpu for r in runs) < 1.5
    steps = lines((tmp_path / "o").read_text())
    assert steps[-1]["spent"] == 750 and steps[-1]["normalized_regret"] < 0.01


def test_would_have_saved_says_by_task_and_with_uncertainty(meta_folder, tmp_path, capsys):
    out = tmp_path / "saved.json"
    command = [
        "replay",
        str(meta_folder),
        "--would-have-saved",
        "--method",
        "portfolio",
        "--budget",
        "18",
    ]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert all(
        f"{task} " in text and f"{value:+.1f}" in text for task, value in found["by_task"].items()
    )
    assert "history: the other tasks\n" in text and text.count("18  40 that it trained") == len(
        found["by_task"]
    )
    assert set(found["budgets"].values()) == {18} and found["shipped_tasks"] == 0
    assert found["low"] <= found["mean"] <= found["high"] and "90 % interval" in text
    assert found["mean"] == pytest.approx(sum(found["by_task"].values()) / len(found["by_task"]))
    for wrong, said in [
        (["--task", "t0"], "--task"),
        (["--method", "random"], "'random' learns from no past"),
    ]:
        assert main(["replay", str(meta_folder), "--would-have-saved", *wrong]) == 2
        assert said in capsys.readouterr().err


def own_study(folder, meta, task, settings):
    """A study of six configurations, the second half of them stopped early."""
    notes = Notes(task_hash=f"images of {task}", settings=settings)
    plan = Plan(
        task=task,
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        budget=60,
        notes=notes,
    )
    study, objective = Study(meta.space, meta.configs, plan, folder=folder), Replay(meta, task)
    for i in range(6):
        step = Step(i, 0, 9 if i < 3 else 2, {})
        study.tell(step, objective.run(i, meta.configs[i], 0, step.stop).rows)
    study.save_tables()


@pytest.mark.parametrize("same", [True, False])
def test_own_studies_have_the_shipped_table_as_history_where_tune_would_give_it(
    meta, tmp_path, capsys, same
):
    settings = asdict(Settings(max_epoch=9))
    about = {
        **meta.about,
        "settings": settings if same else {**settings, "batch_size": 7},
        "max_epoch": meta.max_epoch,
    }
    shipped = MetaDataset(
        meta.space, meta.config_ids, meta.configs, meta.rows, {**about, "tasks": meta.tasks}
    )
    shipped.select(meta.tasks[2:]).save(tmp_path / "meta" / "light")
    for task in meta.tasks[:2]:
        own_study(tmp_path / "studies" / task, meta, task, settings)
    assert (
        main(["replay", str(tmp_path / "studies"), "--would-have-saved", "--method", "mean-rank"])
        == 0
    )
    text = capsys.readouterr().out
    assert ("and the 3 tasks of the shipped table that tune learns from" in text) == same
    held = 3 * 9 + 3 * 2
    assert text.count(f"{held}  6 that it trained") == 2 and f"of {held} epochs a study" in text


def test_help_says_which_budget_and_which_history(capsys):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "ten full trainings; with --would-have-saved five, and at most what the table holds "
        "of a task" in text
    )
    assert (
        "among the configurations that the task has trained" in text
        and "the history that tune takes is history too" in text
    )
