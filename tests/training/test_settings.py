"""Settings that cannot be are refused by name."""

import pytest

from foretune.errors import BadInput
from foretune.training.settings import Settings


@pytest.mark.parametrize(
    ("name", "value"), [("image_size", 8), ("batch_size", 1), ("max_epoch", 0), ("threads", 0)]
)
def test_bad_settings(name: str, value: int) -> None:
    with pytest.raises(BadInput, match=name):
        Settings(**{name: value})
