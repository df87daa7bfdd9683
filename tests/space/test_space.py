"""Search spaces: encoding, sampling, checks."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenEqualsClause,
    Integer,
)
from ConfigSpace.hyperparameters import OrdinalHyperparameter

from foretune.errors import BadInput
from foretune.space.catalogue import hyperrec_space, transfer_space
from foretune.space.space import Space, config_key


def nested() -> ConfigurationSpace:
    """Two levels of conditions, every kind of hyperparameter, one forbidden value."""
    space = ConfigurationSpace("nested")
    kind = Categorical("kind", ["sgd", "adam"], default="sgd")
    momentum = Float("momentum", (0.0, 0.9), default=0.5)
    restarts = Integer("restarts", (1, 9), default=2)
    space.add(
        kind,
        momentum,
        restarts,
        Float("lr", (1e-4, 1.0), log=True, default=1e-2),
        Constant("version", 3),
    )
    space.add(
        OrdinalHyperparameter("size", ["s", "m", "l"], default_value="m"),
        Categorical("flag", [True, False], default=True),
    )
    space.add(EqualsCondition(momentum, kind, "sgd"))
    space.add(
        AndConjunction(
            EqualsCondition(restarts, kind, "sgd"), EqualsCondition(restarts, space["flag"], True)
        )
    )
    space.add(ForbiddenEqualsClause(space["size"], "l"))
    return space


@pytest.fixture(scope="module")
def space() -> Space:
    return Space(nested())


SPACES = [nested, transfer_space, hyperrec_space]


@pytest.mark.parametrize("make", SPACES)
def test_order_conditions_and_default_are_configspaces_own(make):
    theirs = make()
    space = Space(theirs)
    assert space.names == list(theirs.keys())
    assert space.default() == dict(theirs.get_default_configuration())
    assert set(space.conditional) == set(theirs.conditional_hyperparameters)


@pytest.mark.parametrize("make", SPACES)
def test_samples_are_legal_and_reproducible(make):
    space = Space(make())
    drawn = space.sample(50, np.random.default_rng(1))
    assert (
        drawn
        == space.sample(50, np.random.default_rng(1))
        != space.sample(50, np.random.default_rng(2))
    )
    for config in drawn:
        space.check(config)
        assert space.completed(config, {}) == config
    assert (
        space.sample(0, np.random.default_rng(1)) == []
        and len(space.sample(1, np.random.default_rng(1))) == 1
    )


def test_encoding_by_hand(space):
    configs = [
        {
            "kind": "sgd",
            "momentum": 0.45,
            "restarts": 5,
            "lr": 1e-2,
            "version": 3,
            "size": "m",
            "flag": True,
        },
        {"kind": "adam", "lr": 1.0, "version": 3, "size": "s", "flag": False},
    ]
    x = space.encode(configs)
    assert x.shape == (2, space.dims) == (2, 11)
    columns = {name: x[:, part] for name, part in space.columns.items()}
    assert columns["kind"].tolist() == [[1, 0], [0, 1]] and columns["flag"].tolist() == [
        [1, 0],
        [0, 1],
    ]
    assert columns["momentum"].ravel().tolist() == [0.5, 0.0] and columns[
        "restarts"
    ].ravel().tolist() == [0.5, 0.0]
    assert columns["lr"].ravel().tolist() == pytest.approx([0.5, 1.0])
    assert columns["size"].ravel().tolist() == [0.5, 0.0] and columns[
        "version"
    ].ravel().tolist() == [1, 1]
    # activity of the two conditional ones, at the end
    assert x[:, -2:].tolist() == [[1, 1], [0, 0]]
    assert space.conditional == ["momentum", "restarts"]
    assert space.encode([]).shape == (0, 11)


def test_encoding_tells_configurations_apart(space):
    drawn = space.sample(200, np.random.default_rng(0))
    assert len({tuple(row) for row in space.encode(drawn)}) == len({config_key(c) for c in drawn})
    assert ((space.encode(drawn) >= 0) & (space.encode(drawn) <= 1)).all()


def test_neighbours_are_legal_near_and_reproducible(space):
    start = space.default()
    near = space.neighbours(start, np.random.default_rng(0), 60)
    assert near == space.neighbours(start, np.random.default_rng(0), 60)
    for config in near:
        space.check(config)
    x, all_x = space.encode([start]), space.encode(near)
    random = space.encode(space.sample(60, np.random.default_rng(0)))
    assert np.abs(all_x - x).mean() < 0.6 * np.abs(random - x).mean()
    numbers = [c["lr"] for c in near if c["lr"] != start["lr"]]
    # a step of 0.1 of four decades, not a new draw
    assert numbers and np.std(np.log10(numbers)) < 4 * 0.25


def test_completed_switches_children_off_and_fills_from_the_filler(space):
    full = {
        "kind": "sgd",
        "momentum": 0.1,
        "restarts": 4,
        "lr": 0.1,
        "version": 3,
        "size": "s",
        "flag": True,
    }
    assert space.completed({**full, "kind": "adam"}, {}) == {
        k: v for k, v in {**full, "kind": "adam"}.items() if k not in ("momentum", "restarts")
    }
    bare = {"kind": "sgd", "lr": 0.1, "version": 3, "size": "s", "flag": True}
    assert space.completed(bare, {"momentum": 0.2})["momentum"] == 0.2
    assert space.completed(bare, {})["momentum"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 2.0}, r"lr=2.0 must be a number from 0.0001 to 1"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": True}, "lr=True"),
        ({"lr": "0.1"}, "lr='0.1'"),
        ({"restarts": 2.5}, "restarts=2.5 must be a whole number"),
        ({"kind": "lamb"}, "kind='lamb' must be one of sgd, adam"),
        ({"version": 4}, "version=4 must be 3"),
        ({"colour": 1}, "unknown hyperparameter 'colour'"),
        ({"kind": "adam"}, "momentum, restarts is switched off"),
        ({"size": "l"}, "forbids"),
    ],
)
def test_check_names_the_value_and_what_is_right(space, change, message):
    config = {
        "kind": "sgd",
        "momentum": 0.1,
        "restarts": 4,
        "lr": 0.1,
        "version": 3,
        "size": "s",
        "flag": True,
    }
    space.check(config)
    with pytest.raises(BadInput, match=message):
        space.check({**config, **change})


def test_check_names_what_is_missing(space):
    with pytest.raises(BadInput, match="lacks momentum"):
        space.check({k: v for k, v in space.default().items() if k != "momentum"})


def test_encode_refuses_an_unknown_choice(space):
    for name, value in (("kind", "lamb"), ("size", "xl")):
        with pytest.raises(BadInput, match=f"{name}='{value}' is not one of"):
            space.encode([{**space.default(), name: value}])


def test_saving_keeps_the_space(space, tmp_path):
    space.save(tmp_path / "space.json")
    again = Space.load(tmp_path / "space.json")
    assert again == space and again.config_space == nested()
    assert again != Space(transfer_space())


def test_a_file_in_another_serialization_is_read_through_configspace(tmp_path):
    old = {
        "hyperparameters": [
            {"name": "lr", "type": "uniform_float", "log": True, "lower": 0.01, "upper": 1.0}
        ],
        "conditions": [],
        "forbiddens": [],
        "name": None,
    }
    (tmp_path / "space.json").write_text(json.dumps(old))
    space = Space.load(tmp_path / "space.json")
    # ConfigSpace fills in the middle of the log scale
    assert space.default() == {"lr": pytest.approx(0.1)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '"x"',
        '{"hyperparameters": [{"name": "x"}], "conditions": [], "format_version": 0.4}',
        '{"hyperparameters": 3, "format_version": 0.4}',
    ],
)
def test_what_is_no_space_is_refused(tmp_path, text):
    (tmp_path / "space.json").write_text(text)
    with pytest.raises(BadInput, match=r"space\.json"):
        Space.load(tmp_path / "space.json")


def test_conditions_must_name_hyperparameters_and_not_go_round(tmp_path, space):
    described = json.loads((space.save(tmp_path / "s.json"), (tmp_path / "s.json").read_text())[1])
    described["conditions"][0]["parent"] = "nobody"
    with pytest.raises(BadInput, match="nobody"):
        Space(described)
    circle = [
        {"type": "EQ", "child": c, "parent": p, "value": 1}
        for c, p in (("lr", "momentum"), ("momentum", "lr"))
    ]
    with pytest.raises(BadInput, match="circle"):
        Space({**described, "conditions": circle}).default()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="no search space"):
        Space.load(tmp_path / "space.json")


def test_config_key_forgets_rounding_and_order_but_not_values():
    a = {"x": 0.1 + 0.2, "k": 3}
    assert config_key(a) == config_key({"k": np.int64(3), "x": 0.3})
    assert config_key(a) != config_key({"k": 3, "x": 0.3000001}) and config_key(a) != config_key(
        {"k": 3}
    )


def test_spaces_are_read_and_encoded_without_configspace(tmp_path):
    Space(hyperrec_space()).save(tmp_path / "space.json")
    code = (
        "import sys; from foretune.space.space import Space; s = Space.load(sys.argv[1]); c "
        "= s.default(); s.check(c); s.encode([c]);"
        "sys.exit(any(m in sys.modules for m in ('ConfigSpace', 'scipy', 'pandas')))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "space.json")], check=False
        ).returncode
        == 0
    )


def test_ordinal_numbers_are_encoded_by_rank():
    space = ConfigurationSpace()
    space.add(OrdinalHyperparameter("o", [1, 2, 4], default_value=1))
    assert Space(space).encode([{"o": 1}, {"o": 2}, {"o": 4}]).ravel().tolist() == [0, 0.5, 1]
