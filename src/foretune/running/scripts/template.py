"""A command line with placeholders: `python train.py --lr {learning_rate} --out {trial_folder}`.

It is split into arguments once, by the rules of a shell's quotes, and values are put into arguments
that stand already: a value with blanks or quotes stays one argument, and no shell ever reads it.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from foretune.errors import BadInput
from foretune.space.parameters import plain

# what a command can name beside the space's hyperparameters
OWN = {
    "trial_folder": "an empty folder of the trial, where its files belong",
    "epochs": "epochs of a full training",
    "last_epoch": "the epoch after which the step ends",
    "checkpoint": "the checkpoint to go on from (in --resume alone)",
    "seed": "the study's seed",
    "device": "cpu, cuda or what --device says",
}
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.\-/]*)\}")
SHELL = {"|", "||", "&", "&&", ";", ">", ">>", "<", "<<", "2>", "2>&1", "&>"}


@dataclass(frozen=True)
class Template:
    """A command line with placeholders in braces; doubled braces stand for themselves.

    Raises `BadInput` for an empty one, an open quote, and what only a shell understands.
    """

    text: str
    flag: str = "--command"

    def __post_init__(self) -> None:
        if not self.words:
            raise BadInput(f"{self.flag} is empty: give the command that trains")
        for word in self.words:
            if word in SHELL:
                raise BadInput(
                    f"{self.flag} has {word!r}, which only a shell understands, and none reads it: "
                    'put the line into a file, or write bash -c "..."'
                )

    @property
    def words(self) -> list[str]:
        """The arguments, with their placeholders."""
        try:
            return shlex.split(self.text)
        except ValueError as error:
            raise BadInput(f"{self.flag} {self.text!r} cannot be split: {error}") from error

    @property
    def names(self) -> list[str]:
        """The names of the placeholders, in their order, each once."""
        return list(dict.fromkeys(name for word in self.words for name in named(word)))

    def check(self, hyperparameters: Collection[str], own: Collection[str]) -> None:
        """Raise `BadInput` with near names for a placeholder that is neither a hyperparameter nor
        one of foretune's `own`.
        """
        known = [*hyperparameters, *own]
        for name in self.names:
            if name not in known:
                near = get_close_matches(name, known, n=2, cutoff=0.5)
                hint = f" (did you mean {{{'} or {'.join(near)}}}?)" if near else ""
                raise BadInput(
                    f"{self.flag} has {{{name}}}, which is no hyperparameter of the space{hint}; "
                    f"there are {', '.join(known)}; a brace that stands for itself is doubled"
                )

    def filled(self, values: Mapping[str, Any], inactive: Collection[str] = ()) -> list[str]:
        """The arguments with `values` in place. An argument of a hyperparameter that the
        configuration switches off (`inactive`) is left out, with the option before it.
        """
        out: list[str] = []
        for word in self.words:
            if any(name in inactive for name in named(word)):
                if out and out[-1].startswith("-") and "=" not in out[-1]:
                    out.pop()
                continue
            out.append(PLACEHOLDER.sub(lambda found: put(found, values), word))
        return out


def named(word: str) -> Iterator[str]:
    """The names of the placeholders of an argument."""
    return (found[1] for found in PLACEHOLDER.finditer(word) if found[1] is not None)


def put(found: re.Match[str], values: Mapping[str, Any]) -> str:
    """What stands in place of a placeholder, or of a doubled brace."""
    return found[0][0] if found[1] is None else spelled(values[found[1]])


def spelled(value: Any) -> str:
    """A value as an argument: numbers so that they read back as the same ones."""
    value = plain(value)
    return repr(value) if isinstance(value, float) else str(value)
