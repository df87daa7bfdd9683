"""The watch on the inbox, with a stand-in for tuning; with real training in test_service.py."""

from pathlib import Path
from typing import Any

import inbox as module
import pytest
from inbox import Unfinished
from inbox import inbox as flow

from foretune.errors import BadInput
from foretune.running.final import Cost, Final
from foretune.running.tuning import Tuned


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the watch's body once on an inbox of this test; `watch.calls` are the calls of tune,
    `watch.does` what tune does for a name.
    """

    class Watch:
        def __init__(self) -> None:
            self.calls: list[dict[str, Any]] = []
            self.does: dict[str, Any] = {}
            self.registered: list[str] = []
            self.files: dict[str, list[str]] = {}
            self.finals: dict[str, Final] = {}
            self.mlflow = True
            self.folder = tmp_path / "inbox"

        def drop(self, *names: str) -> None:
            for name in names:
                for c in ("cat", "dog"):
                    (self.folder / name / c).mkdir(parents=True)

        def __call__(self, **more: Any) -> list[str]:
            return flow.fn(inbox=str(self.folder), quiet=0.0, data=str(tmp_path / "data"), **more)

        def tune(self, **given: Any) -> Tuned:
            self.calls.append(given)
            if (does := self.does.get(given["study"])) is not None:
                raise does
            return Tuned(
                given["study"],
                tmp_path / "data" / given["study"],
                {"optimizer": "sgd"},
                0.9,
                0.8,
                3,
                6,
                final=self.finals.get(given["study"]),
            )

        def register(self, study: Any, name: str, files: Any) -> bool:
            self.registered.append(name)
            self.files[name] = [path.name for path in files]
            return self.mlflow

    made = Watch()
    monkeypatch.setattr(module, "tune", made.tune)
    monkeypatch.setattr(module.Tracker, "register", lambda self, *given: made.register(*given))
    monkeypatch.setattr(module.Study, "load", lambda folder: None)
    return made


def test_each_dataset_is_tuned_once_as_it_was_asked_for(watch: Any) -> None:
    watch.drop("a", "b")
    assert sorted(watch(budget=6, meta="none")) == ["a", "b"] == sorted(watch.registered)
    assert [(c["study"], c["budget"], c["meta"], "method" in c) for c in watch.calls] == [
        ("a", 6, "none", False),
        ("b", 6, "none", False),
    ]
    assert Path(watch.calls[0]["images"]).name == "a"
    text = (watch.folder / "done" / "a.txt").read_text()
    assert (
        "0.9000 (valid), 0.8000 (test)" in text
        and "best.yaml" in text
        and "registered model a" in text
    )
    assert watch() == [] and len(watch.calls) == 2


def test_the_model_of_all_images_is_registered_where_there_is_one(watch: Any) -> None:
    watch.drop("a", "b")
    model = Path("data/b/final.pt")
    watch.finals["b"] = Final(model, Cost(3, 40, 6.0, None), {"accuracy": (0.9, 0.1)}, 3, 3)
    assert sorted(watch()) == ["a", "b"]
    assert watch.files == {"a": ["best.pt", "best.json"], "b": ["final.pt", "final.json"]}
    assert f"network             {model}" in (watch.folder / "done" / "b.txt").read_text()


def test_a_bad_dataset_is_set_aside_and_the_others_go_on(watch: Any) -> None:
    watch.drop("a", "b", "c")
    watch.does = {"b": BadInput("class 'cat' has 1 image")}
    assert sorted(watch(tracking="none")) == ["a", "c"] and watch.registered == []
    assert "class 'cat' has 1 image" in (watch.folder / "failed" / "b.txt").read_text()


def test_what_is_no_dataset_at_a_look_does_not_wait_for_the_tuning_of_others(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.drop("a")
    (watch.folder / "empty").mkdir()
    (watch.folder / "notes.txt").write_text("hello")
    seen: list[list[str]] = []
    tune = watch.tune

    def first(**given: Any) -> Tuned:
        seen.append(sorted(path.name for path in (watch.folder / "failed").glob("*.txt")))
        return tune(**given)

    monkeypatch.setattr(module, "tune", first)
    assert watch() == ["a"] and seen == [["empty.txt", "notes.txt"]]
    assert "holds no class folders" in (watch.folder / "failed" / "empty.txt").read_text()


def test_a_fault_of_the_machine_waits_for_the_next_watch_with_its_first_request(watch: Any) -> None:
    watch.drop("a", "b")
    watch.does = {"a": OSError("No space left on device")}
    with pytest.raises(Unfinished, match="a: OSError: No space left on device"):
        watch(budget=6)
    assert [c["study"] for c in watch.calls] == ["a", "b"]
    watch.does = {}
    assert watch(budget=99) == ["a"] and watch.calls[-1]["budget"] == 6


def test_a_killed_watch_goes_on_and_one_that_is_always_killed_is_the_datasets_fault(
    watch: Any,
) -> None:
    watch.drop("a")
    watch.does = {"a": KeyboardInterrupt()}
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            watch()
    watch.drop("b")
    assert watch() == ["b"]
    assert "started 4 times" in (watch.folder / "failed" / "a.txt").read_text()


def test_mlflow_may_be_down_for_as_long_as_it_likes(watch: Any) -> None:
    watch.drop("a")
    watch.mlflow = False
    for _ in range(6):
        with pytest.raises(Unfinished, match="ConnectionError"):
            watch()
    watch.mlflow = True
    assert watch() == ["a"]


def test_a_datasets_own_settings_come_before_those_of_the_watch(watch: Any) -> None:
    watch.drop("a", "b")
    (watch.folder / "a" / "foretune.yaml").write_text("budget: 3\nsettings: {max_epoch: 4}\n")
    assert sorted(watch(budget=6, meta="none")) == ["a", "b"]
    calls = {call["study"]: call for call in watch.calls}
    assert calls["a"]["budget"] == 3 and calls["b"]["budget"] == 6
    assert calls["a"]["settings"] == {"max_epoch": 4} and "settings" not in calls["b"]
    assert calls["a"]["meta"] == "none"


def test_a_dataset_may_bring_its_own_space(watch: Any) -> None:
    watch.drop("a")
    (watch.folder / "a" / "foretune.yaml").write_text("space: mine.yaml\n")
    (watch.folder / "a" / "mine.yaml").write_text(
        "learning_rate: {low: 1e-4, high: 1e-2, log: true}"
    )
    assert watch() == ["a"]
    (call,) = watch.calls
    assert Path(call["space"]).name == "mine.yaml" and Path(call["space"]).parent == Path(
        call["images"]
    )


def test_wrong_settings_are_told_before_other_datasets_are_tuned(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.drop("a", "b", "c")
    (watch.folder / "c" / "foretune.yaml").write_text("budgett: 3\n")
    seen: list[bool] = []
    tune = watch.tune

    def told(**given: Any) -> Tuned:
        seen.append((watch.folder / "failed" / "c.txt").exists())
        return tune(**given)

    monkeypatch.setattr(module, "tune", told)
    assert sorted(watch()) == ["a", "b"]
    assert seen == [True, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("budgt: 3", "unknown setting 'budgt' (did you mean budget?); there are budget, "),
        ("budget: -3", "budget=-3 must be at least 1"),
        ("budget: many", "budget='many' must be a whole number"),
        ("settings: {max_epochh: 2}", "unknown setting 'max_epochh' (did you mean max_epoch?)"),
        ("space: /etc/passwd", "space='/etc/passwd' is neither one of transfer, "),
        ("space: ../b/foretune.yaml", "space='../b/foretune.yaml' is neither one of"),
        ("space: none.yaml", "space='none.yaml' is neither one of"),
        ("minutes: [1]", "minutes=[1] must be a number"),
        # what is the watch's or the machine's to say
        ("images: /etc", "unknown setting 'images'"),
        ("script: {command: touch /tmp/x}", "unknown setting 'script'"),
        ("study: ../../x", "unknown setting 'study'"),
        ("data: /srv", "unknown setting 'data'"),
        ("workers: 1000", "unknown setting 'workers'"),
        ("storage: s3://theirs", "unknown setting 'storage'"),
        ("tracking: http://evil.example", "unknown setting 'tracking'"),
    ],
)
def test_a_setting_that_cannot_be_meant_sets_its_dataset_aside_with_the_reason(
    watch: Any, text: str, reason: str
) -> None:
    watch.drop("a", "b")
    (watch.folder / "a" / "foretune.yaml").write_text(text)
    assert watch() == ["b"] and [call["study"] for call in watch.calls] == ["b"]
    said = (watch.folder / "failed" / "a.txt").read_text()
    assert "foretune.yaml" in said and reason in said
