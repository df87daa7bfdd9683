"""Checkpoints: whole or not at all."""

from pathlib import Path

import torch

from foretune.training import checkpoints

CONTENT = {
    "rows": [{"epoch": 1, "loss": 0.5}],
    "tensor": torch.arange(6.0).view(2, 3),
    "none": None,
}


def test_round_trip(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "c", CONTENT)
    found = checkpoints.load(tmp_path / "c")
    assert (
        found is not None
        and found["rows"] == CONTENT["rows"]
        and torch.equal(found["tensor"], CONTENT["tensor"])
    )
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_every_kind_of_damage_reads_as_none(tmp_path: Path) -> None:
    path = tmp_path / "c"
    assert checkpoints.load(path) is None
    checkpoints.save(path, CONTENT)
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpoints.load(path) is None, place
    for length in (0, 4, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert checkpoints.load(path) is None, length


def test_code_is_never_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    # the digest is right, the content is not tensors
    checkpoints.save(tmp_path / "c", {"x": Harmful()})
    assert checkpoints.load(tmp_path / "c") is None
    assert not (tmp_path / "ran").exists()
