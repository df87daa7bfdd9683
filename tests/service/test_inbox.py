"""What is taken from the inbox, when, and where it is after a kill at any point."""

import os
import time
import zipfile
from dataclasses import replace

import pytest

import foretune.service.inbox as module
from foretune.errors import BadInput
from foretune.service.inbox import (
    DONE,
    FAILED,
    LONGEST,
    READY,
    SETTINGS,
    TRIES,
    WORK,
    Inbox,
    Job,
    changed,
)


@pytest.fixture
def inbox(tmp_path):
    box = Inbox(tmp_path / "inbox", tmp_path / "studies", quiet=0.0)
    with box.watching() as mine:
        assert mine
    return box


def drop(inbox, name, classes=("cat", "dog")):
    for c in classes:
        (inbox.folder / name / c).mkdir(parents=True)
        (inbox.folder / name / c / "1.png").write_bytes(b"x")
    return inbox.folder / name


def test_what_still_changes_waits(inbox, monkeypatch):
    waiting = replace_quiet(inbox, 30.0)
    folder = drop(inbox, "photos")
    assert waiting.dropped() == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    assert waiting.dropped() == [folder]
    os.utime(folder / "cat" / "1.png", (0, 0))  # a copy that keeps the original's times
    assert abs(changed(folder)[0] - now) < 20
    monkeypatch.setattr(time, "time", lambda: now - 3600)  # the clock was set back
    assert waiting.dropped() == [folder]


def test_a_marker_says_that_the_copy_has_ended(inbox):
    waiting = replace_quiet(inbox, 3600.0)
    folder = drop(inbox, "photos")
    archive = inbox.folder / "more.zip"
    archive.write_bytes(b"x")
    assert waiting.dropped() == []
    (folder / READY).touch()
    (inbox.folder / f"more.zip.{READY}").touch()
    assert sorted(waiting.dropped()) == [archive, folder]
    waiting.take(archive, {})
    assert not (inbox.folder / f"more.zip.{READY}").exists()  # it was for that copy alone
    archive.write_bytes(b"x")
    assert waiting.dropped() == [folder]


@pytest.mark.parametrize(
    ("times", "own", "expected"),
    [
        ([100, 101, 103], 100, (103, 2.0)),
        ([103, 100, 101, 163], 100, (163, 60.0)),
        # moved here whole, long after its copy: its pauses are no pauses of a copy
        ([100, 5000], 90000, (90000, 0.0)),
        ([], 100, (100, 0.0)),
    ],
)
def test_the_pauses_of_a_copy_are_those_between_its_files(inbox, monkeypatch, times, own, expected):
    folder = inbox.folder / "photos"
    folder.mkdir()
    for k in range(len(times)):
        (folder / f"{k}").touch()

    class Told:
        def __init__(self, seconds):
            self.st_ctime = float(seconds)
            self.st_mode = 0o40755

    monkeypatch.setattr(os, "lstat", lambda path: Told(times[int(os.path.basename(path))]))
    monkeypatch.setattr(type(folder), "lstat", lambda path: Told(own))
    monkeypatch.setattr(type(folder), "is_symlink", lambda path: False)
    assert changed(folder) == expected


def test_a_slow_copy_has_to_be_quiet_for_longer(inbox, monkeypatch):
    waiting = replace_quiet(inbox, 20.0)
    folder = drop(inbox, "photos")
    last = changed(folder)[0]
    for pause, quiet in ((0.0, 20.0), (15.0, 30.0), (100.0, 200.0), (90000.0, 20.0 * LONGEST)):
        monkeypatch.setattr(module, "changed", lambda entry, pause=pause: (last, pause))
        for seconds, taken in ((quiet - 1, []), (quiet + 1, [folder])):
            monkeypatch.setattr(time, "time", lambda seconds=seconds: last + seconds)
            assert waiting.dropped() == taken


def test_a_datasets_own_settings_are_read_beside_the_class_folders(inbox):
    folder = drop(inbox, "photos")
    (folder / SETTINGS).write_text("budget: 20\nsettings: {max_epoch: 4}\n", encoding="utf-8-sig")
    with zipfile.ZipFile(inbox.folder / "more.zip", "w") as archive:
        for c in ("cat", "dog"):
            archive.writestr(f"more/{c}/1.png", b"x")
        archive.writestr(f"more/{SETTINGS}", "method: random\n")
    drop(inbox, "none")
    found = {path.name: inbox.settings(inbox.take(path, {})) for path in inbox.dropped()}
    assert found == {
        "photos": {"budget": 20, "settings": {"max_epoch": 4}},
        "more.zip": {"method": "random"},
        "none": {},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("budget: [", "is no YAML text"),
        ("- 1", "must say `name: value`"),
        ("20", "must say `name: value`"),
        ("1: 2", "must say `name: value`"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("a: !!python/object/apply:os.getcwd []", "is no YAML text"),
        (b"a: \xff", "is no YAML text"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(inbox, text, reason):
    folder = drop(inbox, "photos")
    (folder / SETTINGS).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=reason) as raised:
        inbox.settings(inbox.take(folder, {}))
    assert "\n" not in str(raised.value)


def test_settings_are_no_link_out_of_the_dataset(inbox, tmp_path):
    folder = drop(inbox, "photos")
    (tmp_path / "secret").write_text("a: 1")
    (folder / SETTINGS).symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="is a link"):
        inbox.settings(inbox.take(folder, {}))


def replace_quiet(inbox, quiet):
    return Inbox(inbox.folder, inbox.studies, quiet)


def test_hidden_names_unfinished_copies_and_results_are_left_alone(inbox):
    for name in (".hidden", "photos.zip.part", "x.crdownload"):
        (inbox.folder / name).write_text("")
    assert inbox.dropped() == []
    (inbox.folder / "x.7z").write_text("")
    assert [e.name for e in inbox.dropped()] == ["x.7z"]


def test_taken_once_under_a_name_that_nothing_has_had(inbox):
    names = []
    (inbox.studies / "photos-2").mkdir(parents=True)
    for _ in range(3):
        job = inbox.take(drop(inbox, "photos"), {"budget": 4})
        names.append(job.id)
        assert inbox.dropped() == [] and (job.folder / "photos" / "cat" / "1.png").exists()
        inbox.finish(job, "well")
    assert names == ["photos", "photos-3", "photos-4"]
    assert inbox.take(drop(inbox, "../inbox/my pictures: ü!"), {}).id == "my_pictures_ü"
    assert inbox.take(drop(inbox, "!"), {}).id == "dataset"


def test_a_dataset_named_like_the_note_on_another_is_set_aside_beside_it(inbox):
    jobs = [inbox.take(drop(inbox, name), {}) for name in ("a", "a.txt", "a.TXT_.txt")]
    assert [job.id for job in jobs] == ["a", "a-2", "a-3"]
    for job in jobs:
        assert inbox.set_aside(job, "why").read_text().startswith(job.name)


def test_one_watch_at_a_time(inbox):
    with inbox.watching() as first, inbox.watching() as second:
        assert first and not second


def test_a_kill_while_taking_loses_nothing(inbox, monkeypatch):
    folder = drop(inbox, "photos")
    monkeypatch.setattr(os, "rename", kill)
    with pytest.raises(KeyboardInterrupt):
        inbox.take(folder, {})
    monkeypatch.undo()
    with inbox.watching():
        assert list((inbox.folder / WORK).iterdir()) == [] and inbox.dropped() == [folder]
        assert inbox.take(folder, {}).id == "photos"


def kill(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", ["finish", "set_aside"])
def test_a_kill_while_ending_leaves_a_job_that_ends_again(inbox, monkeypatch, end):
    job = inbox.take(drop(inbox, "photos"), {"budget": 4})
    monkeypatch.setattr(os, "rename", kill)
    with pytest.raises(KeyboardInterrupt):
        getattr(inbox, end)(job, "because")
    monkeypatch.undo()
    with inbox.watching():
        assert inbox.jobs() == [job] and job.request == {"budget": 4}
        note = getattr(inbox, end)(job, "because")
    place = DONE if end == "finish" else FAILED
    assert note == inbox.folder / place / "photos.txt" and "because" in note.read_text()
    assert (
        inbox.folder / place / "photos" / "photos" / "dog" / "1.png"
    ).exists() and inbox.jobs() == []


def test_starts_without_progress_are_counted_and_those_with_progress_are_not(inbox):
    job = inbox.take(drop(inbox, "photos"), {})
    for spent in (0, 3, 5, 9, 12, 12, 12, 12):
        job = inbox.start(job, spent)
        assert inbox.jobs() == [job]
    assert job.tries == TRIES
    with pytest.raises(BadInput, match="photos was started 4 times and never got further"):
        inbox.start(job, 12)
    other = inbox.take(drop(inbox, "zebras"), {})
    # the one that is killed each time comes last
    assert [j.id for j in inbox.jobs()] == [other.id, job.id]


def test_a_job_whose_file_is_lost_is_still_a_job(inbox):
    job = inbox.take(drop(inbox, "photos"), {"budget": 4})
    (job.folder / ".job.json").write_text("{")
    assert inbox.jobs() == [Job(job.folder, "photos", {})]


def test_an_archive_is_unpacked_once_and_its_class_folders_found(inbox, monkeypatch):
    with zipfile.ZipFile(inbox.folder / "pets.zip", "w") as archive:
        for name in ("top/sub/cat/1.png", "top/sub/dog/1.png", "__MACOSX/x"):
            archive.writestr(name, b"x")
    job = inbox.take(inbox.folder / "pets.zip", {})
    folder = inbox.images(job)
    assert folder.name == job.id == "pets"
    assert sorted(p.name for p in folder.iterdir()) == ["cat", "dog"]
    monkeypatch.setattr("foretune.service.inbox.unpack", None)
    assert inbox.images(job) == folder
    inbox.finish(job, "")
    assert [p.name for p in (inbox.folder / DONE / "pets").iterdir() if p.name[0] != "."] == [
        "pets.zip"
    ]
    assert not (inbox.folder / DONE / "pets" / ".unpacked").exists()


def test_a_folder_called_like_anything_inside_keeps_its_files(inbox):
    for name in ("images", "job.json", "done.zip.d"):
        job = inbox.take(drop(inbox, name), {})
        assert inbox.images(job) == job.folder / name
        inbox.finish(job, "")
        assert (inbox.folder / DONE / job.id / name / "cat" / "1.png").exists()


def test_what_is_no_dataset_is_set_aside_with_the_reason(inbox, tmp_path):
    (inbox.folder / "notes.txt").write_text("hello")
    (inbox.folder / "link").symlink_to(tmp_path)
    os.mkfifo(drop(inbox, "pipes") / "cat" / "2.png")
    reasons = {}
    for entry in inbox.dropped():
        job = inbox.take(entry, {})
        with pytest.raises(BadInput) as raised:
            inbox.images(job)
        reasons[entry.name] = inbox.set_aside(job, str(raised.value)).read_text()
    assert (
        "drop a folder of class folders, or an archive of one (.zip, .tar," in reasons["notes.txt"]
    )
    assert "is a link; drop the folder" in reasons["link"] and tmp_path.exists()
    assert (
        "pipes/cat/2.png: is a pipe" in reasons["pipes"]
        and str(inbox.folder) not in reasons["pipes"]
    )
    assert "It is in failed/pipes." in reasons["pipes"]
    assert inbox.jobs() == [] and replace(job, tries=1) != job
