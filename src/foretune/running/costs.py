"""What a study's epochs are expected to cost, for a budget of time: the trainer's cost model
(`foretune.training.cost`) on a task's number of images.
"""

import math
import time
from dataclasses import dataclass, field

import psutil

from foretune.errors import BadInput
from foretune.space.space import Config, Space, config_key
from foretune.study.pace import PARALLEL, Costs
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.training.cost import (
    Machine,
    Parts,
    early_epochs,
    epoch_seconds,
    first_epoch_seconds,
    forward_seconds,
    machine_of,
)
from foretune.training.recipe import recipe, recipes_of
from foretune.training.settings import Settings

# CPU seconds that the end of a study takes whatever is trained: to end the workers and write the
# best network ...
HAND_OVER = 2.0
# ... and, after the final training, to write the report, to bring the log to its end, and for the
# interpreter to take its modules apart
REPORT = 2.5
SLOWEST = 8.0  # how many seconds of the clock one of the CPU may be taken for


@dataclass(frozen=True)
class Beginning:
    """When a request was made, on the monotonic clock, and what this process had used by then."""

    clock: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    @classmethod
    def of_process(cls) -> "Beginning":
        """Of a process that was started for one request."""
        age = time.time() - psutil.Process().create_time()
        return cls(time.monotonic() - max(0.0, age), 0.0)

    @property
    def slowdown(self) -> float:
        """Seconds of the clock since then for each of this process's CPU: how busy the machine
        is, from 1 to `SLOWEST`.
        """
        used = time.process_time() - self.cpu
        return min(SLOWEST, max(1.0, (time.monotonic() - self.clock) / max(used, 0.1)))


class Expected:
    """Seconds of an epoch of a configuration, in the long run and early; each worked out once."""

    def __init__(self, settings: Settings, parts: Parts, machine: Machine):
        self.settings, self.parts, self.machine = settings, parts, machine
        self._kept: dict[str, tuple[float, float]] = {}
        self._early: dict[str, int] = {}

    def __call__(self, config: Config) -> tuple[float, float]:
        """Raises `BadInput` for a configuration that the trainer does not understand."""
        key = config_key(config)
        if key not in self._kept:
            asked = recipe(config, self.settings)
            how = asked, self.settings, self.parts, self.machine
            self._kept[key] = epoch_seconds(*how), first_epoch_seconds(*how)
        return self._kept[key]

    def early(self, config: Config) -> int:
        """How many first epochs are early ones. Raises as calling does."""
        key = config_key(config)
        if key not in self._early:
            self._early[key] = early_epochs(recipe(config, self.settings))
        return self._early[key]


class Larger:
    """How many times as long an epoch of the final training takes as one of the search, in the
    long run and early: by the costs of both, by their images where a network cannot be counted.
    """

    def __init__(self, search: Parts, final: Parts, expected: Expected | None = None):
        self.images = final.train / max(1, search.train)
        self.search = expected
        self.final = expected and Expected(expected.settings, final, expected.machine)

    def __call__(self, config: Config) -> tuple[float, float]:
        if self.search is None or self.final is None:
            return self.images, self.images
        ours, theirs = self.search(config), self.final(config)
        return theirs[0] / ours[0], theirs[1] / ours[1]


def alone(share: float, workers: int, threads: int, cores: int) -> float:
    """How many times as long training takes with no other worker as beside `workers` - 1 others,
    where each of a worker's `threads` has a `share` of a core. Cores are shared evenly among what
    wants them: with n = workers x threads and m threads of other programs, share = cores / (n + m),
    or 1 where there are enough; and the same without the others.
    """
    share = min(1.0, max(0.0, share))
    return max(share, 1 - share * threads * (workers - 1) / cores)


def costs_of(
    settings: Settings, space: Space, task: Task, workers: int, final: bool = False
) -> Costs:
    """The costs of a study of `task`, with those of a `final` training on all images where one is
    to follow (`foretune.running.final`); without expectations where a network of the space cannot
    be counted, and then the study learns them.
    """
    import torch

    machine = machine_of(settings, torch.cuda.is_available())
    train, valid, test = (int((task.split == k).sum()) for k in range(len(PARTS)))
    parts = Parts(
        min(train, settings.train_limit or train), min(valid, settings.valid_limit or valid)
    )
    everything = Parts(train + valid, 0)
    expected = Expected(settings, parts, machine)
    try:
        asked = recipes_of(space, settings)
        for one in asked:
            epoch_seconds(one, settings, parts, machine)
        after = max(forward_seconds(one, settings, test, machine) for one in asked)
    except BadInput:
        larger = Larger(parts, everything) if final else None
        return Costs(fixed=HAND_OVER + REPORT, workers=workers, final=larger)
    larger = Larger(parts, everything, expected) if final else None
    after *= 1 + final  # the final network is tested too
    return Costs(expected, expected.early, after, HAND_OVER + REPORT, larger, workers)


def no_final(costs: Costs, configs: list[Config], seconds: float) -> str | None:
    """One line where `seconds` have no room for an epoch of the search and one of the final
    training of the cheapest configuration, as far as that can be said beforehand.
    """
    if costs.final is None or costs.expected is None or not configs:
        return None
    early = [costs.expected(config)[1] for config in configs]
    final = [k * costs.final(config)[1] for k, config in zip(early, configs, strict=True)]
    least = min(k + last for k, last in zip(early, final, strict=True))
    need = least + costs.after + costs.fixed
    if need <= seconds:
        return None
    return (
        f"{_left(seconds)} for a final training on all images: an epoch of one takes about "
        f"{min(final):,.1f} s, beside the search and the end; give about "
        f"{math.ceil((2 * need - min(0.0, seconds)) / 60)} minutes, or foretune train makes one later"
    )


def _left(seconds: float) -> str:
    """What a budget has left before the first epoch, as words."""
    if seconds <= 0:
        return f"the time was up {-seconds:,.0f} s before the first epoch, and none is left"
    return f"{seconds:,.0f} s are left, too little"


def epochs_in(seconds: float, costs: Costs, configs: list[Config]) -> float:
    """About how many epochs of such configurations `seconds` have room for; infinite where nothing
    is known of their costs.
    """
    if costs.expected is None or not configs:
        return float("inf")
    mean = sum(costs.expected(config)[0] for config in configs) / len(configs)
    room = max(0.0, seconds - costs.after - costs.fixed)
    return room * PARALLEL * costs.workers / mean
