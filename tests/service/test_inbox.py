"""What is taken from the inbox, when, and where it is after a kill at any point."""

import os
import time
import zipfile
from dataclasses import replace

import pytest

from foretune.errors import BadInput
from foretune.service.inbox import DONE, FAILED, TRIES, WORK, Inbox, Job, changed


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
    assert abs(changed(folder) - now) < 20
    monkeypatch.setattr(time, "time", lambda: now - 3600)  # the clock was set back
    assert waiting.dropped() == [folder]


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
