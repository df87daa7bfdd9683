"""The errors that are raised on purpose."""

import math
import shlex

import pytest

from foretune.errors import (
    BadInput,
    BadSuggestion,
    as_argument,
    at_least,
    near,
    one_of,
    positive,
    within,
)


def test_bad_input_is_a_value_error_and_a_bad_suggestion_is_not():
    with pytest.raises(ValueError, match="x=3"):
        raise BadInput("x=3 must be below 2")
    assert not issubclass(
        BadSuggestion, BadInput
    )  # a defect of a searcher is not the user's fault: it keeps its traceback


def test_limits_name_the_first_value_that_breaks_them():
    at_least(1, a=1, b=2.0)
    positive(a=1e-9)
    within(0, 1, a=0, b=1)
    one_of(("raw", "log"), a="raw", b="log")
    for check, text in (
        (lambda: at_least(1, a=1, b=0), "b=0 must be at least 1"),
        (lambda: at_least(0, a=-0.5), "a=-0.5 must be at least 0"),
        (lambda: at_least(0, least=math.nan), "least=nan must be at least 0"),
        (lambda: positive(a=0.0), "a=0 must be positive"),
        (lambda: within(0, 1, low=1.5), "low=1.5 must be from 0 to 1"),
        (lambda: within(0, 1, a=math.nan), "a=nan must be from 0 to 1"),
        (lambda: one_of(("raw", "log"), a="raw", b="ln"), "b='ln' must be one of raw, log"),
    ):
        with pytest.raises(BadInput) as error:
            check()
        assert str(error.value) == text


def test_a_name_known_twice_is_suggested_once():
    assert near("sdg", ["sgd", "adam", "sgd"]) == " (did you mean sgd?)"


def test_a_path_is_one_argument_of_a_shell_and_no_option():
    for path in ("a b", "it's", "-x", "$(id)", "plain"):
        (given,) = shlex.split(as_argument(path))
        assert given.removeprefix("./") == path and not given.startswith("-")
