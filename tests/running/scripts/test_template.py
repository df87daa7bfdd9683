"""A command line with placeholders."""

import pytest

from foretune.errors import BadInput
from foretune.running.scripts.template import Template


def test_values_become_arguments_whatever_stands_in_them():
    template = Template("python 'my train.py' --lr={lr} --note {note} --json '{{\"a\": {n}}}'")
    values = {"lr": 1e-5, "note": "a b; rm -rf $HOME '\"", "n": 3}
    assert template.names == ["lr", "note", "n"]
    assert template.filled(values) == [
        "python",
        "my train.py",
        "--lr=1e-05",
        "--note",
        "a b; rm -rf $HOME '\"",
        "--json",
        '{"a": 3}',
    ]


def test_a_number_reads_back_as_the_same():
    (text,) = Template("{x}").filled({"x": 0.1 + 0.2})
    assert float(text) == 0.1 + 0.2


def test_what_a_configuration_switches_off_is_left_out_with_its_option():
    template = Template("train --opt {opt} --momentum {sgd.momentum} b={adam.beta} --fast")
    assert template.filled({"opt": "x"}, {"sgd.momentum", "adam.beta"}) == [
        "train",
        "--opt",
        "x",
        "--fast",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is empty"),
        ("python 'train", "cannot be split"),
        ("cd x && python train.py", "has '&&', which only a shell understands"),
        ("python train.py > log", "has '>', which only a shell understands"),
    ],
)
def test_what_is_no_command_is_refused(text, line):
    with pytest.raises(BadInput, match=line):
        Template(text)


def test_an_unknown_placeholder_is_refused_with_near_names():
    with pytest.raises(BadInput, match=r"\{learning_rat\}.*did you mean \{learning_rate\}"):
        Template("x {learning_rat}").check(["learning_rate"], ["epochs"])
    Template("x {learning_rate} {epochs}").check(["learning_rate"], ["epochs"])
