"""The errors that are raised on purpose."""

import pytest

from foretune.errors import BadInput, BadSuggestion


def test_bad_input_is_a_value_error_and_a_bad_suggestion_is_not():
    with pytest.raises(ValueError, match="x=3"):
        raise BadInput("x=3 must be below 2")
    assert not issubclass(
        BadSuggestion, BadInput
    )  # a defect of a searcher is not the user's fault: it keeps its traceback
