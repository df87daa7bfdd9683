"""Fetching pinned packages: hashes are checked, nothing is trusted, no network is a clear error."""

import hashlib
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from foretune import packages as sources_index
from foretune.errors import BadInput
from foretune.packages import Package, cache_folder, fetch, member


def package(content: bytes = b"wheel") -> Package:
    return Package("some-set", "1.0", hashlib.sha256(content).hexdigest(), 1.0, "MIT")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORETUNE_CACHE", str(tmp_path))
    return tmp_path / "packages"


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A pip that runs `body` with `arguments` (list) and `dest` (Path)."""
    script = tmp_path / "pip"
    head = f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\narguments = sys.argv[1:]\n"
    head += "dest = Path(arguments[arguments.index('--dest') + 1])\n"
    script.write_text(head + body)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sources_index, "_pip", lambda: [str(script)])


def test_a_kept_wheel_is_found_by_its_hash_without_pip(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources_index, "_pip", lambda: pytest.fail("pip must not run"))
    cache.mkdir()
    (cache / "Some_Set-1.0-py3-none-any.whl").write_bytes(b"wheel")
    assert fetch(package()) == cache / "Some_Set-1.0-py3-none-any.whl"


def test_a_tampered_wheel_in_the_cache_is_fetched_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache.mkdir()
    (cache / "some_set-1.0-py3-none-any.whl").write_bytes(b"tampered")
    fake_pip(
        tmp_path, monkeypatch, "(dest / 'some_set-1.0-py3-none-any.whl').write_bytes(b'wheel')\n"
    )
    lines: list[str] = []
    assert fetch(package(), lines.append).read_bytes() == b"wheel"
    assert lines[0] == "fetching some-set==1.0 (1 MiB)"
    assert sorted(file.suffix for file in cache.iterdir()) in ([".whl"], [".lock", ".whl"])


def test_the_pin_and_its_hash_reach_pip(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = (
        f"Path({str(tmp_path / 'seen')!r}).write_text(' '.join(arguments) + ' ' + "
        "Path(arguments[-1]).read_text())"
    )
    fake_pip(tmp_path, monkeypatch, f"{write}\nsys.exit(1)\n")
    with pytest.raises(BadInput):
        fetch(package())
    seen = (tmp_path / "seen").read_text()
    assert f"some-set==1.0 --hash=sha256:{package().sha256}" in seen
    for option in ("--no-deps", "--only-binary=:all:", "--require-hashes"):
        assert option in seen
    assert "index" not in seen


def test_another_hash_than_the_pinned_one_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_pip(
        tmp_path, monkeypatch, "(dest / 'some_set-1.0-py3-none-any.whl').write_bytes(b'other')\n"
    )
    with pytest.raises(BadInput, match="has not the SHA-256"):
        fetch(package())
    assert not list(cache.glob("*.whl"))


def test_without_a_network_the_error_says_what_to_do(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake_pip(
        tmp_path,
        monkeypatch,
        "print('WARNING: x\\nERROR: No matching distribution found', "
        "file=sys.stderr)\nsys.exit(1)\n",
    )
    with pytest.raises(
        BadInput,
        match=r"some-set==1\.0 could not be fetched \(ERROR: No matching.*needs a network.*packages by hand",
    ):
        fetch(package())


def test_cache_folder_without_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FORETUNE_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "foretune" / "packages"


def test_member_refuses_what_is_missing_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("large", b"0" * 101)
        archive.writestr("small", b"0" * 100)
    monkeypatch.setattr(sources_index, "MAX_MEMBER_BYTES", 100)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert len(member(archive, "small")) == 100
        with pytest.raises(BadInput, match="large unpacks to 101 bytes"):
            member(archive, "large")
        with pytest.raises(BadInput, match="holds no file absent"):
            member(archive, "absent")
