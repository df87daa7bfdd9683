"""From files to a task: what is decoded, how often, and where the pixels lie."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks import decoding, pixels, reading
from foretune.tasks.loading import find_source, load_task, task_of
from foretune.tasks.reading import Reading, free_memory
from foretune.tasks.stored_images import StoredImages


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """How often each file is decoded."""
    seen: Counter[str] = Counter()

    def count(file: Path, *how):
        seen[file.name if file.parent.name == "cat" else f"dog-{file.name}"] += 1
        return pixels.decode_measured(file, *how)

    monkeypatch.setattr("foretune.tasks.sources.decode_measured", count)
    return seen


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six pictures of 300 x 260 pixels."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            coarse.resize((300, 260)).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("size", [64, 128, 224])
def test_the_network_sees_what_torchvision_makes_of_the_files(
    photos: Path, tmp_path: Path, size: int, memory: float | None
):
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from foretune.training.activations import Activations, Part

    task = load_task(photos, tmp_path / "data", size, memory=memory)
    assert isinstance(task.images, StoredImages) is (memory == 0)
    theirs = ImageFolder(
        str(photos),
        transforms.Compose(
            [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
        ),
    )
    # files in the same order; those of four times the size are decoded smaller
    exact = size > 65
    for part, code in (("train", 0), ("valid", 1), ("test", 2)):
        for limit in (10**9, 0):  # held, and read where asked for
            cache = Activations(limit=limit)
            seen = Part(task, part, limit=0, size=size, device=torch.device("cpu"), cache=cache)
            assert isinstance(seen.images, torch.Tensor) is (limit > 0)
            rows = np.flatnonzero(task.split == code)
            got = seen.images[torch.arange(len(rows))].int()
            want = torch.stack([theirs[row][0] for row in rows]).int()
            assert got.shape == want.shape == (len(rows), 3, size, size)
            difference = (got - want).abs()
            assert difference.max() == 0 if exact else difference.float().mean() < 1
            assert seen.labels.tolist() == [theirs[row][1] for row in rows]


def test_what_is_larger_than_memory_is_decoded_once_into_a_file(
    folder: Path, tmp_path: Path, decoded: Counter[str]
):
    data = tmp_path / "data"
    whole = load_task(folder, data, 10)
    assert not data.exists()
    decoded.clear()
    first = load_task(folder, data, 10, memory=0)
    assert isinstance(first.images, StoredImages) and set(decoded.values()) == {1}
    assert first.hash == whole.hash and first.origin == whole.origin
    again = load_task(folder, data, 10, memory=0)
    assert again.hash == whole.hash and set(decoded.values()) == {1}
    # another size and another crop are other pixels
    assert load_task(folder, data, 12, memory=0).images.shape[1] == 12
    assert load_task(folder, data, 10, memory=0, crop="squash").hash != whole.hash
    assert set(decoded.values()) == {3}


def test_a_file_that_changed_is_read_again(folder: Path, tmp_path: Path, decoded: Counter[str]):
    before = load_task(folder, tmp_path / "data", 10, memory=0)
    Image.new("RGB", (20, 12), "red").save(folder / "cat" / "1.png")
    after = load_task(folder, tmp_path / "data", 10, memory=0)
    assert decoded["1.png"] == 2 and after.hash != before.hash
    assert (after.images[1] == (255, 0, 0)).all()


def test_what_was_decoded_before_a_kill_is_not_decoded_again(
    folder: Path, tmp_path: Path, decoded: Counter[str], monkeypatch
):
    monkeypatch.setattr(decoding, "CHUNK", 4)
    monkeypatch.setattr(reading, "processors", lambda: 1)
    whole = load_task(folder, tmp_path / "data", 10)
    decoded.clear()

    def killed(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_task(folder, tmp_path / "data", 10, killed, memory=0)
    (rows,) = (tmp_path / "data" / "cache" / "images").glob("*/rows.bin")
    assert rows.stat().st_size == 4 * 36
    with open(rows, "ab") as stream:  # torn by the kill
        stream.write(b"\x01" * 10)
    decoded.clear()
    seen: list[int] = []
    task = load_task(folder, tmp_path / "data", 10, lambda done, _: seen.append(done), memory=0)
    assert task.hash == whole.hash
    assert sum(decoded.values()) == 6 and seen == [5, 6, 7, 8, 9, 10]
    assert not {"0.png", "1.png", "2.png", "3.png"} & set(decoded)


def test_bad_images_are_known_without_a_second_look(
    folder: Path, tmp_path: Path, decoded: Counter[str]
):
    whole = load_task(folder, tmp_path / "data", 10)
    decoded.clear()
    (folder / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"cat/1\.png.*--skip-bad"):
        load_task(folder, tmp_path / "data", 10, memory=0)
    with pytest.warns(UserWarning, match=r"left out 1 of 10 images: .*cat/1\.png"):
        task = load_task(folder, tmp_path / "data", 10, memory=0, skip_bad=True)
    assert set(decoded.values()) == {1}
    assert np.array_equal(task.images[:], np.delete(whole.images, 1, axis=0))


def test_a_task_is_taken_from_where_it_was_kept_while_nothing_changed(
    folder: Path, tmp_path: Path, decoded: Counter[str]
):
    kept, how = tmp_path / "task.npz", Reading(10)
    task_of(find_source(folder), how, tmp_path).save(kept)
    assert sum(decoded.values()) == 10
    assert task_of(find_source(folder), how, tmp_path, kept=kept).name == "pets"
    assert sum(decoded.values()) == 10
    for change in (Reading(12), Reading(10, crop="pad")):
        task_of(find_source(folder), change, tmp_path, kept=kept)
    assert sum(decoded.values()) == 30
    shutil.move(folder / "cat" / "1.png", folder / "dog" / "9.png")
    task_of(find_source(folder), how, tmp_path, kept=kept)
    assert sum(decoded.values()) == 40


def test_images_that_are_scaled_up_are_told(folder: Path, tmp_path: Path):
    Image.new("RGB", (40, 30)).save(folder / "cat" / "0.png")
    Image.new("RGB", (11, 50)).save(folder / "cat" / "1.png")
    with pytest.warns(
        UserWarning, match=r"9 of 10 images are smaller than 16 px \(the smallest 11 px\)"
    ):
        load_task(folder, tmp_path, 16)


def test_the_order_of_decoding_is_no_matter(folder: Path, tmp_path: Path, monkeypatch):
    hashes = set()
    for threads in (1, 5):
        monkeypatch.setattr(reading, "processors", lambda n=threads: n)
        hashes.add(load_task(folder, tmp_path, 10).hash)
    assert len(hashes) == 1


def test_a_disk_without_room_is_known_before_an_image_is_decoded(
    folder: Path, tmp_path: Path, decoded: Counter[str], monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=2999)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BadInput, match="10 images at 10 px need 0.0 GiB of disk.*--memory"):
        load_task(folder, tmp_path / "data", 10, memory=0)
    assert not decoded
    usage = usage._replace(free=3000)
    assert load_task(folder, tmp_path / "data", 10, memory=0).images.shape[0] == 10


def test_the_memory_that_a_task_may_fill(monkeypatch):
    monkeypatch.setattr(reading, "free_memory", lambda: 8 * 2**30)
    assert Reading().budget() == 2 * 2**30  # a quarter
    assert Reading(processes=3).budget() == 2 * 2**30
    assert Reading(processes=12).budget() == 2**29  # twelve times this are three quarters
    assert Reading(memory=0.5, processes=12).budget() == 2**29
    with pytest.raises(BadInput, match="memory=-1 must be 0 GiB or more"):
        Reading(memory=-1)
    monkeypatch.undo()
    assert 0 < free_memory() < 2**50


def test_a_container_has_no_more_memory_than_its_limit(tmp_path: Path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(reading, "CGROUP", tmp_path)
    assert free_memory() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 2**20


@pytest.mark.parametrize("wrong", [{"size": 7}, {"crop": "middle"}])
def test_a_reading_that_cannot_be_meant_is_refused(wrong: dict):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Reading(**wrong)


PEAK = """
import sys, threading, time
import psutil
from foretune.tasks.loading import load_task
me, peak, done = psutil.Process(), 0, threading.Event()
def watch():
    global peak
    while not done.wait(.05):
        peak = max(peak, me.memory_full_info().uss)
load_task(sys.argv[1], sys.argv[3], 16)   # loads what decoding needs
before = me.memory_full_info().uss
thread = threading.Thread(target=watch); thread.start()
task = load_task(sys.argv[2], sys.argv[3], 224, memory=0)
task.hash
task.save(sys.argv[3] + "/task.npz")
for part in ("train", "valid"):
    for chunk in task.part(part)[0].chunks(64): pass
done.set(); thread.join()
print(task.images.nbytes, peak - before)
"""


@pytest.mark.slow
def test_private_memory_does_not_grow_with_the_images(folder: Path, tmp_path: Path):
    """1,600 images of 224 px are 241 MB of pixels; a tenth of that must be enough, of which two
    chunks of 64 take 19 MB.
    """
    many = tmp_path / "many"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (many / name).mkdir(parents=True)
        for number in range(800):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                many / name / f"{number}.png"
            )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, folder, many, tmp_path / "data"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pixel_bytes, grown = map(int, run.stdout.split())
    assert pixel_bytes == 1600 * 224 * 224 * 3
    assert grown < pixel_bytes / 4
