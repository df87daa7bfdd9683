"""Archives that nobody vouches for."""

import errno
import io
import resource
import stat
import subprocess
import tarfile
import zipfile
from dataclasses import replace

import pytest

from foretune.errors import BadInput
from foretune.service import unpacking as unpack_module
from foretune.service.unpacking import LIMITS, Limits, extract, is_archive, safe, stem, unpack

SMALL = replace(LIMITS, unpacked_bytes=2**20, entries=20, spare_bytes=0)


def zipped(path, files):
    """A zip of names and bytes; a value that is no bytes is a mode for an entry without content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if not isinstance(content, bytes):
                info.external_attr = content << 16
            archive.writestr(info, content if isinstance(content, bytes) else b"/etc/passwd")
    return path


def tarred(path, files, mode="w"):
    """A tar of names and bytes; a value that is no bytes is the type of an entry."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes) and info.name and content[:1] != b"\1":
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content[1:], "/etc/passwd"
                archive.addfile(info)
    return path


def found(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_files_come_out_and_clutter_does_not(tmp_path, name):
    files = {
        "p/cat/1.png": b"x" * 700_000,
        "p/dog/1.png": b"y",
        "__MACOSX/p/cat/1.png": b"z",
        "p/.DS_Store": b"z",
        "p/Thumbs.db": b"z",
    }
    mode = "w:" + name.split(".")[-1].replace("tgz", "gz").replace("tar", "")
    archive = (
        zipped(tmp_path / name, files)
        if name.endswith("zip")
        else tarred(tmp_path / name, files, mode)
    )
    (tmp_path / "out").mkdir()
    extract(archive, tmp_path / "out", SMALL)
    assert found(tmp_path / "out") == {"p/cat/1.png": b"x" * 700_000, "p/dog/1.png": b"y"}
    assert is_archive(name) and stem(name) == "a"


def test_other_names_are_no_archives():
    assert not is_archive("a.7z") and stem("b.photos") == "b.photos"


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "C:\\x.png", "c:x.png", "a\\..\\x.png", ""]
)
def test_no_entry_leaves_its_folder(name):
    with pytest.raises(BadInput, match="outside its folder"):
        safe(name, "a.zip")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/x\n\x1b[31m.png", "no text"),
        ("a/\udcff.png", "no text"),
        ("a/" + "x" * 300, "too long"),
        ("a/" * 1500 + "b", "too long"),
    ],
)
def test_names_that_no_screen_or_disk_takes_are_refused(name, why):
    with pytest.raises(BadInput, match=why):
        safe(name, "a.zip")


def test_names_of_other_alphabets_are_taken():
    assert str(safe("Kätzchen/猫 👩\u200d👧.png", "a.zip")) == "Kätzchen/猫 👩\u200d👧.png"


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path, monkeypatch, capsys):
    archive = zipped(tmp_path / "a.zip", {"a/1.png": b"x"})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack_module, "extract", full)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # not for the process of the tests
    assert (
        unpack_module.main([str(archive), str(tmp_path), *["1000000"] * 5])
        == unpack_module.DISK_FAULT
    )
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(
        unpack_module.subprocess,
        "run",
        lambda *_, **__: subprocess.CompletedProcess(
            [], unpack_module.DISK_FAULT, "", "error: a.zip: cannot be unpacked here"
        ),
    )
    with pytest.raises(OSError, match="cannot be unpacked here"):
        unpack_module.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_entry_that_would_leave_writes_nothing(tmp_path, make):
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar"), {"a/../../out.png": b"x"})
    (tmp_path / "in" / "deep").mkdir(parents=True)
    with pytest.raises(BadInput, match="outside its folder"):
        extract(archive, tmp_path / "in" / "deep", SMALL)
    assert not list(tmp_path.rglob("out.png"))


def test_links_and_devices_are_refused(tmp_path):
    archives = [zipped(tmp_path / "a.zip", {"cat/1.png": stat.S_IFLNK | 0o777})]
    for k, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
        archives.append(tarred(tmp_path / f"{k}.tar", {"cat/1.png": b"\1" + kind}))
    for k, archive in enumerate(archives):
        (tmp_path / f"out{k}").mkdir()
        with pytest.raises(BadInput, match="'cat/1.png', which is a link or a device"):
            extract(archive, tmp_path / f"out{k}", SMALL)
        assert found(tmp_path / f"out{k}") == {}


def test_a_file_cannot_be_written_twice_nor_through_a_file(tmp_path):
    for k, names in enumerate((["a/x.png", "a//x.png"], ["a", "a/x.png"], ["a/x.png", "a"])):
        (tmp_path / f"out{k}").mkdir()
        with pytest.raises(BadInput, match="twice, or as a file and a folder"):
            extract(
                zipped(tmp_path / f"{k}.zip", dict.fromkeys(names, b"x")),
                tmp_path / f"out{k}",
                SMALL,
            )


@pytest.mark.parametrize(
    ("files", "limits", "reason"),
    [
        ({"a/1.png": b"0" * (2**20 + 1)}, SMALL, "more than it may: the limit is 1.0 MiB"),
        ({f"a/{i}.png": b"0" * 2**17 for i in range(9)}, SMALL, "more than it may"),
        ({f"a/{i}.png": b"" for i in range(21)}, SMALL, "entries"),
        ({"a/1.png": b"0"}, replace(SMALL, spare_bytes=2**60), "only 0.0 MiB of the disk"),
    ],
)
def test_bombs_are_stopped_as_they_unpack(tmp_path, files, limits, reason):
    for archive in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tgz", files, "w:gz")):
        folder = tmp_path / archive.suffix
        folder.mkdir()
        with pytest.raises(BadInput, match=reason):
            extract(archive, folder, limits)
        assert sum(map(len, found(folder).values())) <= limits.unpacked_bytes


@pytest.mark.slow
def test_the_limited_process(tmp_path):
    good = zipped(tmp_path / "good.zip", {"a/1.png": b"x"})
    unpack(good, tmp_path / "good", SMALL)
    assert found(tmp_path / "good") == {"a/1.png": b"x"}
    header = tarfile.TarInfo("x")
    # a header that the reader would take into memory whole
    header.type, header.size = tarfile.XHDTYPE, 2**28
    with tarfile.open(tmp_path / "memory.tgz", "w:gz") as archive:
        archive.addfile(header, io.BytesIO(b"0" * 2**28))
    for name, content, reason in [
        ("memory.tgz", None, "takes more than 320.0 MiB of memory"),
        ("damaged.zip", good.read_bytes()[:-30], "is damaged, or no archive"),
        ("other.tar.gz", b"what is this", "is damaged, or no archive"),
    ]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=f"^{name}: {reason}"):
            unpack(tmp_path / name, tmp_path / "bad", replace(SMALL, memory_bytes=320 * 2**20))
        assert not (tmp_path / "bad").exists()


def test_limits_are_positive():
    with pytest.raises(BadInput, match="must be positive"):
        Limits(entries=0)
