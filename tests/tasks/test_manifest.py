"""Tables of images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toy_images import noise

from foretune.errors import BadInput
from foretune.tasks.loading import load_task
from foretune.tasks.manifest import read_manifest


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Thirty 8-px images scan0.png to scan29.png, in a folder `scans` beside the tables."""
    (tmp_path / "scans").mkdir()
    for number, image in enumerate(noise(30)):
        Image.fromarray(image).save(tmp_path / "scans" / f"scan{number}.png")
    return tmp_path


def table(**columns) -> pd.DataFrame:
    """Thirty rows: images in turn healthy and ill."""
    rows = range(30)
    return pd.DataFrame(
        {
            "path": [f"scans/scan{row}.png" for row in rows],
            "label": [("healthy", "ill")[row % 2] for row in rows],
            **{name: [of(row) for row in rows] for name, of in columns.items()},
        }
    )


def written(folder: Path, content: pd.DataFrame, kind: str = "csv") -> Path:
    file = folder / f"study.{kind}"
    if kind == "parquet":
        content.to_parquet(file)
    else:
        content.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_names_images_and_labels(scans: Path, kind: str):
    task = load_task(written(scans, table(age=lambda row: row), kind), size=8)
    assert (task.name, task.class_names) == ("study", ("healthy", "ill"))
    assert task.labels.tolist() == [0, 1] * 15
    assert np.array_equal(task.images, noise(30))
    assert np.bincount(task.split).tolist() == [18, 6, 6]


def test_paths_are_relative_to_the_table_wherever_one_stands(scans: Path, monkeypatch):
    content = table()
    content.loc[3, "path"] = str(scans / "scans" / "scan3.png")  # an absolute one
    file = written(scans, content)
    monkeypatch.chdir(scans.parent)
    assert np.array_equal(load_task(file, size=8).images, noise(30))


def test_labels_and_paths_are_texts(scans: Path):
    content = table().assign(label=["007", "7", "nan"] * 10)
    assert read_manifest(written(scans, content)).class_names == ("007", "7", "nan")
    numbers = written(scans, table().assign(label=[1, 2, 3] * 10), "parquet")
    assert read_manifest(numbers).class_names == ("1", "2", "3")


@pytest.mark.parametrize(
    ("names", "parts"),
    [(("train", "valid", "test"), (0, 1, 2)), (("Training", "VAL", "testing"), (0, 1, 2))],
)
def test_a_split_is_kept(scans: Path, names: tuple, parts: tuple):
    content = table(split=lambda row: names[row // 2 % 3])
    task = load_task(written(scans, content), size=8)
    assert task.split.tolist() == [parts[row // 2 % 3] for row in range(30)]


@pytest.mark.parametrize(("given", "drawn", "left"), [("test", 1, 2), ("valid", 2, 1)])
def test_a_part_that_is_missing_is_drawn_from_train(scans: Path, given: str, drawn: int, left: int):
    content = table(split=lambda row: given if row >= 20 else "train")
    missing = {"test": "valid", "valid": "test"}[given]
    with pytest.warns(UserWarning, match=f"no {missing} part: [4-6] of the 20 training images"):
        task = load_task(written(scans, content), size=8)
    assert (task.split[20:] == left).all()
    assert np.bincount(task.split[:20], minlength=3)[drawn] in (4, 5, 6)
    assert set(task.split[:20].tolist()) == {0, drawn}


def test_groups_are_never_on_both_sides(scans: Path):
    content = table(group=lambda row: f"patient {row // 6}")
    task = load_task(written(scans, content), size=8)
    assert all(len(set(task.split[6 * k : 6 * k + 6])) == 1 for k in range(5))
    # of a part that is drawn from train, too
    content["split"] = ["train"] * 24 + ["test"] * 6
    with pytest.warns(UserWarning, match="no valid part"):
        task = load_task(written(scans, content), size=8)
    assert all(len(set(task.split[6 * k : 6 * k + 6])) == 1 for k in range(5))
    assert set(task.split[:24].tolist()) == {0, 1}


def test_rows_without_a_group_are_groups_of_their_own(scans: Path):
    content = table(group=lambda row: "" if row < 24 else "twins")
    task = load_task(written(scans, content), size=8)
    assert len(set(task.split[24:].tolist())) == 1
    assert set(task.split[:24].tolist()) == {0, 1, 2}


def broken(**changes) -> pd.DataFrame:
    content = table(split=lambda row: ("train", "valid", "test")[row % 3], group=lambda row: row)
    for column, (row, value) in changes.items():
        content[column] = content[column].astype(object)
        content.loc[row, column] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table().drop(columns="label"), r"has no column label; .* this one has path"),
        (table().rename(columns={"path": "file"}), r"has no column path"),
        (broken(label=(4, "")), r"study\.csv: row 5 without a label"),
        (broken(path=(4, " ")), r"row 5 without a path"),
        (broken(path=(4, "scans/scan0.png")), r"rows 1 and 5 are the same image, scans/scan0"),
        (broken(split=(4, "dev")), r"row 5 with split 'dev'; train, .* in every row or in none"),
        (broken(split=(4, "")), r"row 5 with split ''"),
        (broken(group=(4, "0")), r"group 0 stands in train and in valid"),
        (table().iloc[:0], "names no image"),
        (table().assign(label="one"), r"has 1 class"),
        (table().iloc[:5], r"study\.csv/ill: class with 2 images, at least 3 are needed"),
        (broken(path=(4, "scans/none.png")), r"scans/none\.png: there is no such file"),
        (
            table(split=lambda row: "train" if row % 2 else "test"),
            r"study\.csv/healthy: class with 0 training images, at least 1 is needed",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(scans: Path, content: pd.DataFrame, message: str):
    with pytest.raises(BadInput, match=message):
        load_task(written(scans, content), size=8)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 torn")
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    (tmp_path / "d.csv").write_text('path,label\n"a,b\n')
    for name in "a.parquet", "b.csv", "c.csv", "d.csv":
        message = "is empty" if name == "b.csv" else "cannot be read as a table"
        with pytest.raises(BadInput, match=f"{name}: {message}"):
            read_manifest(tmp_path / name)


def test_files_that_are_not_there_are_left_out_where_that_is_asked(scans: Path):
    content = broken(path=(4, "scans/none.png"))
    with pytest.warns(UserWarning, match=r"left out 1 of 30 images: .*none\.png"):
        task = load_task(written(scans, content), size=8, skip_bad=True)
    assert np.array_equal(task.images, np.delete(noise(30), 4, axis=0))


@pytest.mark.parametrize("first", ["", "sep=;\n"])
def test_a_table_that_a_spreadsheet_parts_by_semicolons_is_read(tmp_path, first):
    file = tmp_path / "t.csv"
    file.write_text(first + "path;label\na,1.png;cat\nb.png;dog\n", encoding="utf-8-sig")
    found = read_manifest(file)
    assert [path.name for path in found.files] == ["a,1.png", "b.png"]
    assert found.class_names == ("cat", "dog") and found.labels.tolist() == [0, 1]


def test_a_comma_at_the_end_of_each_row_moves_no_column(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.png,cat,\nb.png,dog,\n", encoding="utf-8")
    assert [path.name for path in read_manifest(tmp_path / "t.csv").files] == ["a.png", "b.png"]


def test_a_path_that_its_comma_cuts_in_two_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na,1.png,cat\n", encoding="utf-8")
    with pytest.raises(BadInput, match="row 1 has 3 cells for 2 columns: .* put them in quotes"):
        read_manifest(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "other", ["./scans/scan0.png", "../{here}/scans//scan0.png", "{full}", "link.png"]
)
def test_one_image_by_two_spellings_is_one_image(scans: Path, other: str):
    (scans / "link.png").symlink_to(scans / "scans" / "scan0.png")
    path = other.format(here=scans.name, full=scans / "scans" / "scan0.png")
    (scans / "t.csv").write_text(f"path,label,split\nscans/scan0.png,a,train\n{path},b,test\n")
    with pytest.raises(BadInput, match="rows 1 and 2 are the same image"):
        read_manifest(scans / "t.csv")


def test_blanks_around_a_cell_are_none_of_it(scans: Path):
    rows = [
        ("scans/scan0.png", "cat", "g"),
        (" scans/scan1.png", "cat ", "h "),
        ("scans/scan2.png ", " dog", "h"),
    ]
    (scans / "t.csv").write_text("path,label,group\n" + "\n".join(",".join(row) for row in rows))
    found = read_manifest(scans / "t.csv")
    assert found.class_names == ("cat", "dog") and found.labels.tolist() == [0, 0, 1]
    assert found.groups == ("group g", "group h", "group h")
    assert [path.name for path in found.files] == ["scan0.png", "scan1.png", "scan2.png"]


def test_parquet_says_whole_numbers_and_bytes_as_a_csv_does(scans: Path):
    paths = [f"scans/scan{k}.png".encode() for k in range(3)]
    pd.DataFrame({"path": paths, "label": [1.0, 2.0, 2.5]}).to_parquet(scans / "t.parquet")
    found = read_manifest(scans / "t.parquet")
    assert found.class_names == ("1", "2", "2.5") and found.files[0] == scans / "scans/scan0.png"
    pd.DataFrame({"path": [b"\xff\xfe"], "label": ["a"]}).to_parquet(scans / "t.parquet")
    with pytest.raises(BadInput, match="cannot be read as a table of images"):
        read_manifest(scans / "t.parquet")
