"""Spaces in YAML: what is read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.space.written import fixed, read, space_of

TEXT = """
learning_rate: {low: 1e-5, high: 1e-1, log: true}
optimizer: [adamw, sgd]
momentum: {low: 0.8, high: 0.99, default: 0.9, if: optimizer == sgd}
nesterov: {choices: [true, false], if: optimizer == sgd and momentum > 0.85}
batch_size: {low: 16, high: 64, log: true}
finetune: {order: [head, last_blocks, most], default: most}
scheduler: {choices: [cosine, step, none], if: "optimizer in [adamw]"}
mixup: 0.2
"""


def test_ten_lines_are_a_space(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(TEXT, encoding="utf-8")
    space = read(tmp_path / "space.yaml")
    rate, batch, depth = (
        space.parameters[name] for name in ("learning_rate", "batch_size", "finetune")
    )
    assert (rate.lower, rate.upper, rate.log, rate.integer) == (1e-5, 1e-1, True, False)
    assert rate.default == pytest.approx(1e-3)  # the middle on its scale
    assert batch.integer and (batch.lower, batch.upper, batch.default) == (16, 64, 32)
    assert depth.sequence == ("head", "last_blocks", "most") and depth.default == "most"
    for config in space.sample(200, np.random.default_rng(0)):
        sgd = config["optimizer"] == "sgd"
        assert ("momentum" in config) == sgd != ("scheduler" in config)
        assert ("nesterov" in config) == (sgd and config["momentum"] > 0.85)
        assert config["mixup"] == 0.2 and isinstance(config["batch_size"], int)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have entries such as learning_rate"),
        ("a: {low: 1}", "entry a lacks high"),
        ("a: {low: 3, high: 1}", "entry a: low must be below high, but they are 3 and 1"),
        ("a: {low: 0, high: 1, log: true}", "entry a: low must be above 0 on a log scale"),
        ("a: {range: [0, 1], log: true}", r"unknown word 'range'.*; \{low: 1e-5, high: 1e-1"),
        *(
            (f"a: {text}", r"entry a cannot be '.*'; \{low: 1e-5, high: 1e-1, log: true\}")
            for text in ("0.001..1.0 log", "1e-5 to 1e-1", "(0, 1)", "16, 128", "log 1 - 10")
        ),
        ("a: {low: 0, high: 1, lgo: true}", r"entry a has the unknown word 'lgo' \(did you mean"),
        ("a: {low: small, high: 1}", "entry a: low must be a number, but is 'small'"),
        ("a: {low: 0, high: 1, default: 2}", "default 2"),
        ("a: {default: 2}", "entry a must have low and high, or choices, or order"),
        ("a: {choices: b}", "entry a: choices must be a list"),
        ("a: [[1]]", "neither a number, a text nor true or false"),
        ("a:", "entry a is empty"),
        ("a: {low: 0, high: 1, if: b == 1}", "if names 'b', which is no entry"),
        ("a: {low: 0, high: 1, if: often}", "must be a comparison such as optimizer == sgd"),
        ("b: [x, y]\na: {low: 0, high: 1, if: b == z}", "asks for b='z'"),
        ("a: [x, y]\n b: 1", "is not YAML"),
    ],
)
def test_faults_name_the_entry_and_what_would_be_right(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said) as caught:
        read(tmp_path / "space.yaml")
    assert "space.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no search space"):
        read(tmp_path / "none.yaml")


def test_what_is_fixed_decides_its_children() -> None:
    import yaml

    space = space_of(yaml.safe_load(TEXT))
    adamw = fixed(space, {"optimizer": "adamw", "unknown": 1})
    assert "momentum" not in adamw.names and "nesterov" not in adamw.names
    assert "scheduler" in adamw.default()
    sgd = fixed(space, {"optimizer": "sgd", "momentum": 0.84})
    assert sgd.names == [
        "learning_rate",
        "optimizer",
        "momentum",
        "batch_size",
        "finetune",
        "mixup",
    ]
    assert sgd.default()["momentum"] == 0.84
    # a value that the space did not have
    assert fixed(space, {"optimizer": "lion"}).default()["optimizer"] == "lion"
    assert "momentum" in space.names  # the space itself is as it was


def test_an_entry_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("lr: [0.1]\nother: [1, 2]\nlr: [1.0]\n", encoding="utf-8")
    with pytest.raises(BadInput, match="entry lr stands twice, again in line 3"):
        read(file)
    file.write_text("lr: {low: 1, high: 2, low: 3}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="entry low stands twice"):
        read(file)


def test_brackets_without_end_are_refused(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(BadInput, match="is not YAML"):
        read(tmp_path / "deep.yaml")


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5", "2024-01", "16x16", "v1.5", "0.5.1"])
def test_texts_with_numbers_in_them_are_constants(text, tmp_path):
    (tmp_path / "space.yaml").write_text(f"a: '{text}'\nb: [1, 2]\n")
    described = read(tmp_path / "space.yaml").described["hyperparameters"]
    assert {"a": text} in [{p["name"]: p.get("value")} for p in described]
