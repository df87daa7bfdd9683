"""foretune: hyperparameter tuning for image classifiers that learns from every study before it."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BadInput": "foretune.errors",
    "MetaDataset": "foretune.history.meta_dataset",
    "Plan": "foretune.study.plan",
    "Space": "foretune.space.space",
    "Step": "foretune.study.plan",
    "Study": "foretune.study.study",
    "Suggestion": "foretune.study.plan",
    "Task": "foretune.tasks.task",
    "load_task": "foretune.tasks.loading",
    "recommend": "foretune.recommenders.recommendation",
    "searcher": "foretune.searchers.registry",
    "tune": "foretune.commands.api",
}
# inside other libraries, each with an extra of its own: loaded as modules, where they are asked for
_INSIDE = ("huggingface", "keras", "lightning", "optuna", "ray")
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  (names of lazily loaded objects)


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing foretune stays instant."""
    if name in _INSIDE:
        return importlib.import_module(f"foretune.integrations.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foretune' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
