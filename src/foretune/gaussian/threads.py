"""Linear algebra on one thread."""

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _libraries(scipy: bool) -> "ThreadpoolController":
    """The loaded libraries of linear algebra; `scipy` brings one of its own when it is imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_thread() -> AbstractContextManager:
    """Linear algebra on one thread meanwhile: a decision's matrices are small, and beside training
    workers threads wait for each other (measured on two busy cores: 97 ms instead of 2.6 ms a
    gradient of DyHPO; 62 s instead of 2 s to learn from 1,728 past runs). What is imported
    meanwhile keeps its threads: import scipy.linalg before where it is used.
    """
    return _libraries("scipy.linalg" in sys.modules).limit(limits=1)
