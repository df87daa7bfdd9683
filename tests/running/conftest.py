"""What the tests of this room share with those of the recommenders."""

from tests.recommenders.conftest import world

__all__ = ["world"]
