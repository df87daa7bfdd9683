"""What a study shows while it runs."""

import io

import pytest

from foretune.study.study import Plan, Step, Study
from foretune.views import progress as display
from foretune.views.progress import Decoding, Progress, progress


def study(meta, **plan):
    return Study(
        meta.space,
        meta.configs[:5],
        Plan(task="t", metric="score", goal="maximize", max_epoch=9, budget=20, **plan),
    )


def test_a_line_says_where_the_study_stands(meta, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    s = study(meta, seconds=1000.0)
    shown = Progress(s, io.StringIO())
    assert shown.line(s) == "0/20 epochs · 0 trials (0 running)" and shown.seconds_left(s) is None
    s.tell(Step(1, 0, 9), [0.1], elapsed=2.0)
    # the first epoch carries the start of the workers: no pace yet
    assert "left" not in shown.line(s)
    s.tell(Step(1, 1, 9), [0.5, 0.4, 0.3], elapsed=2.0)
    s.fail(Step(2, 0, 9), 1, "diverged")
    clock[0] += 8
    assert (
        shown.line(s)
        == "5/20 epochs · 2 trials (0 running, 1 failed) · best 0.5000 (trial 1, epoch 2) · "
        "about 30 s left"
    )
    s.clock(990.0)
    assert shown.seconds_left(s) == 10.0  # the wall-clock budget ends first


def test_losses_are_shown_in_their_own_unit(meta):
    s = Study(
        meta.space,
        meta.configs[:5],
        Plan(task="t", metric="loss", goal="minimize", max_epoch=9, budget=20),
    )
    s.tell(Step(1, 0, 9), [2.5])
    assert "best 2.5000" in Progress(s, io.StringIO()).line(s)


def test_elsewhere_than_on_a_terminal_a_line_comes_with_each_incumbent_or_tenth(meta):
    s, out = study(meta), io.StringIO()
    with progress(s, out) as show:
        for epoch, value in enumerate((0.5, 0.4, 0.3, 0.6)):
            s.tell(Step(0, epoch, 9), [value])
            show(s)
            show(s)  # nothing new, no line
    lines = out.getvalue().splitlines()
    assert [line.split(" epochs")[0].strip() for line in lines] == ["1/20", "2/20", "4/20"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_is_rewritten_and_left_however_it_ends(meta):
    s, out = study(meta), Terminal()

    def interrupted():
        with progress(s, out) as show:
            s.tell(Step(0, 0, 9), [0.5])
            show(s)
            show(s)  # within a tenth of a second: not again
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (
        out.getvalue().count("\r\x1b[2K") == 1
        and out.getvalue().endswith("\n")
        and out.getvalue().count("\n") == 1
    )


def test_decoding_says_how_far_it_is_from_time_to_time(monkeypatch):
    clock = iter([0.0, 9.9, 10.0, 19.9, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    decoding = Decoding(10.0, stream)
    for done in (100, 1200, 1300, 2400):
        decoding(done, 50_000)
    assert stream.getvalue() == ("  read 1,200 of 50,000 images\n  read 2,400 of 50,000 images\n")
