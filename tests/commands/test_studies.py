"""`foretune studies` and `foretune report`."""

from foretune.commands.cli import main
from foretune.commands.studies import status
from foretune.study.study import Plan, Step, Study


def make(meta, data, name, budget=9, epochs=0):
    plan = Plan(
        task="cats",
        metric="accuracy",
        goal="maximize",
        max_epoch=9,
        budget=budget,
        method="hyperband",
    )
    study = Study(meta.space, meta.configs[:5], plan, folder=data / "studies" / name)
    if epochs:
        study.tell(Step(1, 0, epochs), [0.1 * (e + 1) for e in range(epochs)])
    return study


def test_a_line_per_study_and_a_damaged_one_beside(meta, tmp_path, capsys):
    make(meta, tmp_path, "first", epochs=9)
    make(meta, tmp_path, "second-study", epochs=3)
    make(meta, tmp_path, "third")
    make(meta, tmp_path, "fourth")
    (tmp_path / "studies" / "fourth" / "study.json").write_text("{")
    assert main(["studies", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in printed.out.splitlines()}
    assert rows["study"] == ["task", "method", "epochs", "trials", "best", "status"]
    assert rows["first"] == ["cats", "hyperband", "9/9", "1", "0.9000", "finished"]
    assert rows["second-study"] == ["cats", "hyperband", "3/9", "1", "0.3000", "paused"]
    assert rows["third"] == ["cats", "hyperband", "0/9", "0", "-", "empty"]
    assert len(rows) == 4 and "fourth" in printed.err and printed.err.count("\n") == 1


def test_without_studies_it_says_how_to_start_one(tmp_path, capsys):
    assert main(["studies", "--data", str(tmp_path)]) == 0
    assert (
        capsys.readouterr().out
        == f"no studies in {tmp_path / 'studies'} yet; start one with: foretune tune IMAGES\n"
    )


def test_status(meta, tmp_path):
    assert [status(make(meta, tmp_path, str(k), epochs=k)) for k in (0, 4, 9)] == [
        "empty",
        "paused",
        "finished",
    ]


def test_a_report_is_written_where_it_is_asked_for(meta, tmp_path, capsys):
    make(meta, tmp_path, "first", epochs=9)
    assert main(["report", "first", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "studies" / "first" / "report.html")
    assert (
        main(
            [
                "report",
                str(tmp_path / "studies" / "first"),
                "--data",
                str(tmp_path),
                "--out",
                str(tmp_path / "r.html"),
            ]
        )
        == 0
    )
    text = (tmp_path / "r.html").read_text()
    assert (
        text == (tmp_path / "studies" / "first" / "report.html").read_text()
        and "cats" in text
        and "0.9" in text
    )


def test_reports_into_a_folder_or_of_nothing_are_refused(meta, tmp_path, capsys):
    make(meta, tmp_path, "first", epochs=9)
    assert main(["report", "first", "--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert main(["report", "second", "--data", str(tmp_path)]) == 2
    assert "there are: first" in capsys.readouterr().err
