"""Whether a study that goes on is the one that is asked for: compared by content, wherever its
files lie and whatever types its numbers have.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foretune.history.join import learning_settings
from foretune.space.space import Config, Space, config_key, to_json
from foretune.study.notes import Notes
from foretune.study.plan import Plan

FACTS = ("task", "metric", "goal", "max_epoch", "method", "seed", "open")


def differences(
    stored: tuple[Space, Sequence[Config], Plan], wanted: tuple[Space, Sequence[Config], Plan]
) -> list[str]:
    """What a study is now asked that it was not started with, each in a few words; none where both
    ask the same. A study is its space, its pool of configurations and its plan; budgets may differ,
    and a task may have another name where both plans note the same images.
    """
    (old_space, old_pool, old), (new_space, new_pool, new) = stored, wanted
    same_images = old.notes.task_hash is not None and old.notes.task_hash == new.notes.task_hash
    out = [
        f"{fact} {getattr(old, fact)!r}, now {getattr(new, fact)!r}"
        for fact in FACTS
        if getattr(old, fact) != getattr(new, fact) and not (fact == "task" and same_images)
    ]
    if old.notes.task_hash != new.notes.task_hash:
        out.append("other images")
    notes: tuple[tuple[str, Callable[[Notes], Mapping[str, Any]]], ...] = (
        ("options", _options),
        ("settings", _settings),
    )
    for name, taken in notes:
        before, after = as_read(taken(old.notes)), as_read(taken(new.notes))
        out += [
            f"{name}: {key} {before.get(key)!r}, now {after.get(key)!r}"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ]
    content = [f"another space: {one}" for one in old_space.differences(new_space)]
    keys, new_keys = ([config_key(config) for config in pool] for pool in (old_pool, new_pool))
    if keys != new_keys:
        content.append(f"another pool of configurations: {_first_difference(keys, new_keys)}")
    names = old.notes.space, new.notes.space
    if content and names[0] != names[1]:
        content.insert(0, f"space {names[0]}, now {names[1]}")
    return out + content


def _settings(notes: Notes) -> dict[str, Any]:
    return learning_settings(notes.settings)


def _options(notes: Notes) -> Mapping[str, Any]:
    return notes.options


def as_read(value: Any) -> Any:
    """`value` as it comes back from JSON, where tuples and lists are the same."""
    return json.loads(json.dumps(value, default=to_json))


def _first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    for k, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return f"entry {k} is {one}, now {other}"
    return f"{len(before)} entries, now {len(after)}"
