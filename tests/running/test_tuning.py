"""Tuning from end to end, with real training of a small network on a small task."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float
from inline import Inline
from PIL import Image

import foretune
from foretune import shipped
from foretune.errors import BadInput
from foretune.running import tuning
from foretune.running.objectives.training import Training
from foretune.running.opening import open_study
from foretune.running.past import missing_history, without_target
from foretune.running.preparation import checked, looked_up, opened, prepared
from foretune.running.request import Request
from foretune.running.space_and_settings import settings_of
from foretune.running.studies import all_studies, find_study
from foretune.running.tuning import baseline, finish, run, tune_request
from foretune.searchers.autohyper import narrowed
from foretune.searchers.registry import DEFAULT
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.study.study import Study
from foretune.tasks.pixels import CROPS, decode, decode_measured
from foretune.tasks.task import Task
from foretune.training.optimizers import OPTIMIZERS
from foretune.training.recipe import default_config

SETTINGS = {
    "network": "shufflenet_v2_x05",
    "pretrained": False,
    "image_size": 32,
    "max_epoch": 2,
    "train_limit": 32,
    "valid_limit": 0,
    "device": "cpu",
}


@pytest.fixture
def request_of(tiny_task, tmp_path):
    """A request for the tiny task in a data folder of its own."""

    def make(**more):
        return Request(
            **{
                "images": str(tiny_task),
                "budget": 4,
                "meta": "none",
                "method": "random",
                "data": tmp_path / "data",
                "settings": SETTINGS,
                **more,
            }
        )

    return make


def run_inline(request, **more):
    with prepared(request) as ready:
        run(ready, workers=Inline(ready.objective), **more)
        return ready, finish(ready)


@pytest.fixture(scope="module")
def finished(tiny_task, tmp_path_factory):
    """A finished study of two full trainings; tests work on copies."""
    data = tmp_path_factory.mktemp("tuned")
    request = Request(
        images=str(tiny_task),
        budget=4,
        meta="none",
        method="random",
        data=data,
        settings=SETTINGS,
        study="s",
    )
    spent = []
    with prepared(request) as ready:
        tuned = tune_inline(ready, spent)
    return request, tuned, spent


def tune_inline(ready, spent):
    run(ready, workers=Inline(ready.objective), on_change=lambda study: spent.append(study.spent))
    return finish(ready)


def test_a_study_hands_over_the_best_trial_and_nothing_else(finished):
    request, tuned, spent = finished
    folder = request.data / "studies" / "s"
    study = Study.load(folder)
    assert spent == [2, 4] and study.done and tuned.folder == folder and tuned.name == "s"
    config_id, epoch, value = study.incumbent
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert (
        best["config"] == study.configs[config_id] == tuned.best
        and best["epoch"] == epoch == tuned.epoch
    )
    assert (
        best["valid_accuracy"]
        == pytest.approx(value, abs=1e-6)
        == pytest.approx(tuned.valid_accuracy, abs=1e-6)
    )
    assert (
        best["test_accuracy"] == pytest.approx(tuned.test_accuracy, abs=1e-6)
        and 0 <= tuned.test_accuracy <= 1
    )
    assert best["epochs_spent"] == 4 and best["method"] == "random" and best["task"] == "tiny"
    assert [p.name for p in (folder / "checkpoints").iterdir()] == [f"trial-{config_id}.best.ckpt"]
    assert {
        "best.pt",
        "best.json",
        "best.yaml",
        "study.json",
        "journal.jsonl",
        "space.json",
        "curves.parquet",
    } <= {p.name for p in folder.iterdir()}
    assert {row["epoch"] for rows in study.rows.values() for row in rows} == {1, 2}
    assert {
        "train_loss",
        "valid_loss",
        "valid_accuracy",
        "valid_top5",
        "learning_rate",
        "seconds",
        "images_per_second",
    } <= set(study.rows[config_id][0])


def test_the_same_request_again_trains_and_tests_nothing(finished, tmp_path, monkeypatch):
    request, tuned, _ = finished
    shutil.copytree(request.data, tmp_path / "data")
    monkeypatch.setattr(Training, "run", None)
    from foretune.training import trial

    monkeypatch.setattr(trial, "evaluate", None)
    _, again = run_inline(replace(request, data=tmp_path / "data"))
    assert replace(again, folder=tuned.folder) == tuned


def test_a_raised_budget_goes_on_and_another_question_is_refused(finished, tmp_path):
    request, _, _ = finished
    shutil.copytree(request.data, tmp_path / "data")
    request = replace(request, data=tmp_path / "data")
    before = Study.load(request.data / "studies" / "s").order
    for change, message in [
        ({"seed": 1}, "seed 0, now 1"),
        ({"method": "hyperband"}, "method 'random', now 'hyperband'"),
        ({"settings": {**SETTINGS, "train_limit": 40}}, "settings"),
        ({"space": "heavy"}, "space transfer, now heavy"),
    ]:
        with pytest.raises(BadInput, match=message), prepared(replace(request, **change)):
            pass
    ready, _ = run_inline(replace(request, budget=6))
    assert ready.study.spent == 6 and ready.study.order[:4] == before


def test_two_runs_of_one_study_at_once_are_refused(request_of):
    with (
        prepared(request_of(study="s")),
        pytest.raises(BadInput, match="'s' is open in this process already"),
        prepared(request_of(study="s")),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"budget": 0}, "budget=0"),
        ({"seed": -1}, "seed=-1"),
        ({"method": "hyperbend"}, "did you mean hyperband"),
        (
            {"method": "portfolio"},
            "'portfolio' needs past tasks, and --meta none gives none: take --method hyperband",
        ),
        (
            {"method": "portfolio", "meta": "light", "space": "hyperrec"},
            "and --space hyperrec gives none",
        ),
        ({"options": {"eta": 2}}, "no option 'eta'"),
        ({"settings": {**SETTINGS, "network": "resnet19"}}, "resnet19"),
        ({"settings": {**SETTINGS, "device": "tpu"}}, "tpu"),
        ({"settings": {**SETTINGS, "colour": 3}}, "unknown setting 'colour'"),
        ({"images": "nothing"}, "nothing"),
        ({"study": "a/b"}, "plain folder name"),
        ({"study": ".."}, "plain folder name"),
        ({"study": "a\x07b"}, "plain folder name"),
        ({"study": "caf\udce9"}, "plain folder name"),
        ({"study": "é" * 101}, "plain folder name"),
        ({"study": "a\0b"}, "study='a\\\\x00b' must be a text without NUL"),
        ({"space": "a\0b"}, "without NUL"),
        ({"sources": ("a\0",)}, "without NUL"),
        ({"space": "galaxy"}, "neither transfer"),
        ({"method": "autohyper", "settings": {**SETTINGS, "pretrained": True}}, "--from-scratch"),
        ({"method": "autohyper"}, "--open"),
        ({"sources": ("a",)}, "--sources names past tasks"),
        ({"meta": "other"}, "no meta-dataset folder"),
    ],
)
def test_what_is_at_fault_is_refused_before_anything_is_written(request_of, change, message):
    request = request_of(**change)
    with pytest.raises(BadInput, match=message), prepared(request):
        pass
    assert not any(request.data.rglob("*"))


def test_missing_weights_are_known_before_the_first_trial(request_of, monkeypatch):
    from foretune.training import networks

    def none(name, weights=None):
        raise BadInput("no ImageNet weights of this network can be had here")

    monkeypatch.setattr(networks, "imagenet_state", none)
    with (
        pytest.raises(BadInput, match="ImageNet weights"),
        prepared(request_of(settings={**SETTINGS, "pretrained": True})),
    ):
        pass


def test_a_study_in_which_nothing_worked_says_why(request_of, monkeypatch):
    from foretune.study.outcome import Outcome

    monkeypatch.setattr(Training, "run", lambda self, *a, **k: Outcome([], "training loss is nan"))
    with pytest.raises(BadInput, match="no trial of study 's' has a result: training loss is nan"):
        run_inline(request_of(study="s"))


def test_the_default_configuration_is_trained_first_where_the_budget_allows(
    request_of, monkeypatch
):
    from foretune.study.outcome import Outcome

    def train(self, config_id, config, start, stop, on_epoch=None):
        return Outcome([{"epoch": e, "valid_accuracy": 0.5} for e in range(start + 1, stop + 1)])

    monkeypatch.setattr(Training, "run", train)
    default = transfer_pool().index(default_config("shufflenet_v2_x05"))
    for budget, anchor, first in ((10, True, True), (10, False, False), (8, True, False)):
        with prepared(
            request_of(
                method="hyperband", budget=budget, default=anchor, study=f"s{budget}{anchor}"
            )
        ) as ready:
            run(ready, workers=Inline(ready.objective))
            assert (ready.study.order[:2] == [(default, 1), (default, 2)]) is first


def test_what_tuning_is_compared_with(finished, tmp_path):
    request, _, _ = finished
    shutil.copytree(request.data, tmp_path / "data")
    with prepared(replace(request, data=tmp_path / "data")) as ready:
        default, random = baseline(ready, "default"), baseline(ready, "random")
        assert (
            default.study.configs == [default_config("shufflenet_v2_x05")]
            and default.study.budget == 2
        )
        assert (
            random.study.budget == ready.study.spent == 4
            and random.study.configs == ready.study.configs
        )
        assert (
            default.study.plan.method == random.study.plan.method == "random"
            and random.study.past is None
        )
        assert (
            default.folder == ready.folder / "compare-default"
            and default.objective.folder.parent == default.folder
        )
    # they are part of it, not studies beside it
    assert [f.name for f in all_studies(tmp_path / "data")] == ["s"]


def test_the_task_itself_is_no_past_task_by_name_or_by_content(meta, tiny_task):
    task = Task.load(tiny_task)
    meta = meta.select(meta.tasks)
    meta.about["hashes"] = {"t1": task.hash, "t2": "other"}
    assert without_target(meta, replace(task, name="t3"), None).tasks == ["t0", "t2", "t4"]
    assert without_target(meta, task, ("t4", "t1", "t0")).tasks == ["t4", "t0"]
    with pytest.raises(BadInput, match="'t3', which is the task to tune"):
        without_target(meta, replace(task, name="t3"), ("t3",))


def test_settings_come_from_the_past_and_the_request_changes_them(meta, request_of):
    meta = meta.select(meta.tasks)
    meta.about["settings"] = {
        "network": "mobilenet_v2",
        "max_epoch": 7,
        "image_size": 40,
        "forgotten": 1,
        "device": "cuda:3",
    }
    settings = settings_of(request_of(settings={"image_size": 64, "network": None}), meta)
    assert (settings.network, settings.max_epoch, settings.image_size, settings.device) == (
        "mobilenet_v2",
        7,
        64,
        "auto",
    )


def test_studies_are_found_by_name_or_folder(finished, tmp_path):
    request, _, _ = finished
    folder = request.data / "studies" / "s"
    assert find_study("s", request.data) == folder == find_study(str(folder), tmp_path)
    with pytest.raises(BadInput, match="no study 't' in .*; there are: s"):
        find_study("t", request.data)
    with pytest.raises(BadInput, match="there are: none yet"):
        find_study("t", tmp_path)


def test_open_study_compares_settings_but_not_the_device(finished, tmp_path):
    request, _, _ = finished
    shutil.copytree(request.data / "studies" / "s", tmp_path / "s")
    study = Study.load(tmp_path / "s")
    notes = replace(study.plan.notes, settings={**study.plan.notes.settings, "device": "cuda"})
    again = open_study(
        study.space, study.configs, replace(study.plan, notes=notes), None, tmp_path / "s"
    )
    assert again.spent == 4


def test_a_request_is_carried_out_to_its_end(request_of, monkeypatch):
    monkeypatch.setattr(tuning, "Processes", Inline)
    seen = []
    tuned = tune_request(request_of(budget=1), on_change=lambda study: seen.append(study.spent))
    assert seen == [1] and tuned.name == "tiny-random-0" and (tuned.folder / "best.yaml").exists()


def test_history_that_is_gone_is_said_and_a_method_that_needs_it_refused(
    request_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(tuning, "Processes", Inline)
    asked = request_of(meta="light", budget=1)
    assert missing_history(asked) is None
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    line = missing_history(asked)
    assert line is not None and "pip install --force-reinstall" in line and "\n" not in line
    assert str(asked.data / "meta" / "light") in line
    for wanted in ({"meta": "none"}, {"space": "hyperrec"}):
        assert missing_history(replace(asked, **wanted)) is None
    with (
        pytest.raises(BadInput, match="needs past tasks, and no history: there is no meta-dataset"),
        prepared(replace(asked, method="portfolio")),
    ):
        pass
    with pytest.raises(BadInput, match="no meta-dataset"), prepared(replace(asked, sources=("a",))):
        pass
    assert not asked.data.exists()
    with pytest.warns(UserWarning, match="no history"):
        assert tune_request(asked).epochs_spent == 1


def test_own_studies_of_other_images_are_past_tasks_and_a_study_that_goes_on_keeps_its_past(
    finished, tmp_path, monkeypatch
):
    request, _, _ = finished
    shutil.copytree(request.data, tmp_path / "data")
    own = tmp_path / "data" / "studies" / "s"
    plan = json.loads((own / "study.json").read_text())
    plan["notes"]["task_hash"] = "other images"
    (own / "study.json").write_text(json.dumps(plan))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    now = replace(request, data=tmp_path / "data", meta="light", method=None, study="next")
    with prepared(now) as ready:
        assert ready.study.past.tasks == ["studies/s"] and ready.study.plan.method == DEFAULT
        assert ready.study.past_ids.max() >= 0
    shutil.copytree(own, own.with_name("later"))
    plan["notes"]["task_hash"] = "a third set"
    (own.with_name("later") / "study.json").write_text(json.dumps(plan))
    with prepared(now) as ready:
        assert ready.study.past.tasks == ["studies/s"]
    for alone in (replace(now, study="x", own_studies=False), replace(now, study="y", meta="none")):
        with prepared(alone) as ready:
            assert ready.study.past is None
    with prepared(replace(now, study="z", settings={**SETTINGS, "train_limit": 40})) as ready:
        assert ready.study.past is None  # other settings, other curves
    with prepared(replace(now, study="w")) as ready:
        assert ready.study.past.tasks == ["studies/s", "studies/later"]  # oldest first


def test_tuning_from_python_with_what_it_is_compared_with(tiny_task, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "Processes", Inline)
    asked = {"meta": "none", "method": "random", "data": tmp_path, "compare": True, "study": "s"}
    tuned = foretune.tune(tiny_task, budget=2, **asked, **SETTINGS)
    assert tuned.epochs_spent == 2 and tuned.folder == tmp_path / "studies" / "s"
    assert {kind: one.epochs_spent for kind, one in tuned.compared.items()} == {
        "default": 2,
        "random": 2,
    }
    assert Study.load(tuned.folder).plan.notes.settings["image_size"] == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bugdet": 3}, r"unknown option 'bugdet' \(did you mean budget"),
        ({"imagesize": 64}, r"unknown option 'imagesize' \(did you mean image_size"),
        ({"budget": "100"}, "budget='100' must be a whole number"),
        ({"settings": {"max_epochs": 3}}, r"unknown setting 'max_epochs' \(did you mean max_epoch"),
        ({"image_size": 3}, "setting image_size must be 16 or more, but got 3"),
        ({"image_size": "64"}, "image_size='64' must be a whole number"),
        ({"sources": "a,b"}, "sources='a,b' must be a list of names"),
    ],
)
def test_what_python_cannot_ask_for_is_named(tiny_task, tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        foretune.tune(tiny_task, data=tmp_path, **{"meta": "none", **options})
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tiny_task, tmp_path):
    asked = {"meta": "none", "method": "random", "budget": 2, "data": str(tmp_path), **SETTINGS}
    script = tmp_path / "script.py"
    script.write_text(f"import foretune\nforetune.tune({str(tiny_task)!r}, **{asked!r})\n")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 1
    assert 'put the call under if __name__ == "__main__":' in done.stderr.splitlines()[-1]


LATE = """
import sys
from pathlib import Path
from foretune import shipped
from foretune.running.request import Request
from foretune.running.preparation import checked, looked_up, opened

shipped.FOLDER = Path("nothing")
settings = {settings!r}
request = Request({images!r}, budget=4, data=Path({data!r}), study="next", settings=settings)
found = looked_up(checked(request))
print(*found.past.tasks, flush=True)
sys.stdin.readline()
with opened(found) as ready:
    print(*ready.study.past.tasks, ready.study.plan.method, flush=True)
"""


@pytest.mark.slow
def test_two_processes_that_start_one_study_agree_on_its_past(
    finished, tiny_task, tmp_path, monkeypatch
):
    """The second looks its past up before the first has written the study, and opens it after."""
    request, _, _ = finished
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    data = tmp_path / "data"
    shutil.copytree(request.data, data)
    own = data / "studies" / "s"
    plan = json.loads((own / "study.json").read_text())
    for name in ("s", "later"):
        if name != "s":
            shutil.copytree(own, own.with_name(name))
        plan["notes"]["task_hash"] = f"images of {name}"
        (own.with_name(name) / "study.json").write_text(json.dumps(plan))
    code = LATE.format(settings=SETTINGS, images=str(tiny_task), data=str(data))
    late = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert late.stdout.readline().split() == ["studies/s", "studies/later"]
        shutil.rmtree(own.with_name("later"))
        first = replace(request, data=data, meta="light", method=None, study="next")
        with opened(looked_up(checked(first))) as ready:
            assert ready.study.past.tasks == ["studies/s"]
        shutil.copytree(own, own.with_name("later"))
        (own.with_name("later") / "study.json").write_text(json.dumps(plan))
        told, _ = late.communicate("\n", timeout=120)
        assert told.split() == ["studies/s", DEFAULT] and late.returncode == 0
    finally:
        late.kill()
    assert Study.load(data / "studies" / "next").plan.notes.past == ("studies/s",)


def test_checking_and_looking_up_write_nothing(request_of):
    request = request_of(study="s")
    found = looked_up(checked(request))
    assert not any(request.data.rglob("*")) and not found.known
    with opened(found) as ready:
        assert ready.study.plan == found.plan
    assert looked_up(checked(request)).known


def test_autohyper_tunes_real_trials_whose_rows_hold_z(request_of):
    request = request_of(
        method="autohyper",
        open=True,
        budget=4,
        default=False,
        settings={**SETTINGS, "max_epoch": 2},
    )
    with prepared(request) as ready:
        assert ready.objective.rank
        outcome = ready.objective.run(
            0, {**default_config(SETTINGS["network"]), "finetune": "most"}, 0, 1
        )
    assert 0 <= outcome.rows[0]["zero_share"] <= 1
    with prepared(request_of(study="other")) as ready:
        assert not ready.objective.rank


def test_the_space_that_lr_writes_narrows_another_method(request_of, tmp_path):
    narrowed(Space(transfer_space()), 0.01, factor=3).save(tmp_path / "narrowed.json")
    request = request_of(space=str(tmp_path / "narrowed.json"), method="hyperband", meta="none")
    with prepared(request) as ready:
        space = ready.study.space
        rates = [c["learning_rate"] for c in space.sample(40, np.random.default_rng(0))]
    assert 0.01 / 3 <= min(rates) < 0.006 and 0.015 < max(rates) <= 0.03
    assert space.names == Space(transfer_space()).names


@pytest.mark.parametrize(
    ("name", "condition"), [("adas.bta", True), ("adas.beta", False), ("sls.c", True)]
)
def test_optimizer_options_that_cannot_be_are_refused_before_any_trial(
    request_of, tmp_path, name, condition
):
    """Whatever the default configuration: here it is adam."""
    space = ConfigurationSpace(name="options")
    optimizer, option = (
        Categorical("optimizer", ["adam", "adas"], default="adam"),
        Float(name, (0.1, 0.9)),
    )
    space.add(optimizer, option, Float("learning_rate", (1e-4, 1e-2), log=True))
    if condition:
        space.add(EqualsCondition(option, optimizer, "adas"))
    Space(space).save(tmp_path / "space.json")
    with (
        pytest.raises(BadInput, match=name),
        prepared(request_of(space=str(tmp_path / "space.json"))),
    ):
        pass
    assert not list(tmp_path.glob("**/study.json"))


@pytest.mark.slow
def test_a_space_may_hold_every_optimizer(request_of, tmp_path):
    """Random search over all of them and options of two, with an epoch for each trial: every curve
    is there and the best network is handed over.
    """
    space = ConfigurationSpace(name="optimizers")
    optimizer = Categorical("optimizer", OPTIMIZERS, default="adam")
    beta, c = (
        Categorical("adas.beta", [0.8, 0.9, 0.95, 0.975]),
        Float("sls.c", (0.05, 0.5), log=True),
    )
    space.add(optimizer, beta, c, Float("learning_rate", (1e-4, 1e-2), log=True))
    space.add(EqualsCondition(beta, optimizer, "adas"), EqualsCondition(c, optimizer, "sls"))
    Space(space).save(tmp_path / "space.json")
    settings = {**SETTINGS, "max_epoch": 1}
    request = request_of(
        space=str(tmp_path / "space.json"), budget=60, settings=settings, default=False
    )
    with prepared(request) as ready:

        def enough(study):
            seen = {study.configs[i]["optimizer"] for i in study.started}
            if seen == set(OPTIMIZERS) and not study.pending.any():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(ready, workers=Inline(ready.objective), on_change=enough)
        tuned = finish(ready)
    study = Study.load(tuned.folder)
    assert {study.configs[i]["optimizer"] for i in study.started} == set(OPTIMIZERS)
    assert not any(study.failed[i] for i in study.started)
    assert all(np.isfinite(row["train_loss"]) for rows in study.rows.values() for row in rows)
    assert 0 <= tuned.valid_accuracy <= 1 and (tuned.folder / "best.pt").exists()


@pytest.fixture
def photos(tmp_path):
    """A folder of twelve pictures in two colours, of 70 x 40 pixels."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 90, (40, 70, 3), dtype=np.uint8)
            pixels[:, :, channel] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def decodes(monkeypatch):
    """The files that are decoded."""
    seen = []

    def count(file, *how):
        seen.append(file)
        return decode_measured(file, *how)

    monkeypatch.setattr("foretune.tasks.sources.decode_measured", count)
    return seen


@pytest.mark.parametrize("memory", [None, 0])
def test_images_are_read_at_the_size_of_the_network_and_once_a_study(
    request_of, photos, decodes, memory
):
    request = request_of(images=str(photos), memory=memory, crop="pad", budget=1)
    with prepared(request) as ready:
        assert ready.task.images.shape == (12, 32, 32, 3) and ready.task.crop == "pad"
        folder = ready.folder
    assert len(decodes) == 12
    # in its file or beside it, the task is what the workers train on
    assert Task.load(folder / "task.npz").hash == ready.task.hash
    shutil.rmtree(request.data / "cache", ignore_errors=True)
    with prepared(replace(request, budget=2)) as again:
        assert again.folder == folder and again.task.hash == ready.task.hash
    assert len(decodes) == 12


def test_a_study_of_images_that_are_not_held_learns_what_one_that_holds_them_learns(
    request_of, photos
):
    curves = []
    for memory in (None, 0):
        with prepared(request_of(images=str(photos), memory=memory, study=f"m{memory}")) as ready:
            run(ready, workers=Inline(ready.objective))
            found = finish(ready)
        rows = [[r["valid_loss"] for r in rows] for rows in ready.study.rows.values()]
        curves.append((rows, found.test_accuracy, found.best))
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {**SETTINGS, "network": "resnet19"}}, "resnet19"),
        ({"settings": {**SETTINGS, "image_size": 2000}}, "size=2000 .* from 8 to 1024"),
        ({"settings": {**SETTINGS, "train_limit": -1}}, "train_limit"),
        ({"settings": {**SETTINGS, "device": "tpu"}}, "tpu"),
        ({"space": "galaxy"}, "neither transfer"),
        ({"crop": "middle"}, "crop='middle' must be one of center"),
        ({"memory": -1.0}, "memory=-1"),
        ({"recommender": "oracle", "method": "random"}, "'random' takes no ranking"),
        ({"method": "hyperbend"}, "did you mean hyperband"),
    ],
)
def test_what_is_at_fault_is_refused_before_an_image_is_decoded(
    request_of, photos, decodes, change, message
):
    with (
        pytest.raises(BadInput, match=message),
        prepared(request_of(images=str(photos), **change)),
    ):
        pass
    assert not decodes


def test_another_question_to_a_study_is_refused_before_an_image_is_decoded(
    request_of, photos, decodes
):
    with prepared(request_of(images=str(photos), study="s")):
        pass
    decodes.clear()
    for change, message in [
        ({"settings": {**SETTINGS, "image_size": 48}}, "settings: image_size 32, now 48"),
        ({"space": "heavy"}, "space transfer, now heavy"),
        ({"seed": 1}, "seed 0, now 1"),
    ]:
        asked = request_of(images=str(photos), study="s", **change)
        with pytest.raises(BadInput, match=message), prepared(asked):
            pass
    assert not decodes


@pytest.mark.parametrize("crop", CROPS)
def test_the_network_handed_over_predicts_from_files_what_it_was_tested_with(
    request_of, photos, crop
):
    """`decode` with what best.json says gives the pixels that training saw."""
    ready, _ = run_inline(request_of(images=str(photos), crop=crop, budget=1))
    about = json.loads((ready.folder / "best.json").read_text())
    files = [f for name in ready.task.class_names for f in sorted((photos / name).iterdir())]
    images = [decode(f, about["image_size"], crop=CROPS[about["crop"]]) for f in files]
    assert np.array_equal(np.stack(images), ready.task.images)
    assert about["crop"] == crop
