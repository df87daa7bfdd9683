"""What a name means: from other tools' names and values to the canonical columns of a run.

A setting is a hyperparameter that did not vary: both are columns, so that runs of any trainer, with
any network, image size or budget, stand in one table (`foretune.history.columns`). A name that is
not known is kept as `extra.NAME` (`extra_name`).
"""

import json
import math
import re
from functools import cache
from typing import Any

from foretune.errors import BadInput
from foretune.history.columns import COLUMNS

EXTRA = "extra."
# written as one value by some tools, two columns here
PAIRS = dict.fromkeys(
    ("betas", "opt_betas", "adam_betas", "optimizer_betas", "beta"), ("beta1", "beta2")
)
# words in front of a name that say where it stands, not what it is
GROUPS = [
    "config",
    "params",
    "param",
    "parameters",
    "hparams",
    "hparam",
    "hyperparameters",
    "hyperparameter",
    "args",
    "arguments",
    "cfg",
    "settings",
    "optimizer",
    "optim",
    "opt",
    "model",
    "trainer",
    "train",
    "training",
    "train_loop_config",
    "data",
    "scheduler",
    "hp",
    "fit",
    "init_args",
    "network",
    "dataset",
]
SYNONYMS: dict[str, dict[str, str]] = {
    "scheduler": {
        "cosineannealinglr": "cosine",
        "cosine_annealing": "cosine",
        "cosineannealing": "cosine",
        "cosineannealingwarmrestarts": "cosine_restarts",
        "cosine_with_restarts": "cosine_restarts",
        "steplr": "step",
        "multisteplr": "multistep",
        "exponentiallr": "exponential",
        "reducelronplateau": "plateau",
        "reduce_lr_on_plateau": "plateau",
        "onecyclelr": "onecycle",
        "one_cycle": "onecycle",
        "linearlr": "linear",
        "constant_with_warmup": "none",
        "constant": "none",
        "polynomiallr": "poly",
        "polynomial": "poly",
    },
    "optimizer": {
        "adamw_torch": "adamw",
        "adamw_hf": "adamw",
        "adamw_torch_fused": "adamw",
        "adam_w": "adamw",
        "momentum_sgd": "momentum",
        "sgd_momentum": "momentum",
    },
}
NOTHING = {"", "none", "null", "nan", "na", "n/a", "undefined", "-"}
TRUE, FALSE = {"true", "yes", "on", "1", "1.0"}, {"false", "no", "off", "0", "0.0"}
WEIGHTS = re.compile(r"\.(pt|pth|onnx|ya?ml|safetensors|h5|keras|ckpt|bin)$", re.IGNORECASE)


def normal(name: str) -> str:
    """A name in lower case, its words joined by `_`: `Learning-Rate` is `learning_rate`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


@cache
def _aliases() -> dict[str, tuple[str, float]]:
    out: dict[str, tuple[str, float]] = {}
    for column in COLUMNS.values():
        for alias, factor in column.aliases.items():
            if out.setdefault(alias, (column.name, factor))[0] != column.name:
                raise ValueError(f"alias {alias!r} of two columns")
    return out


@cache
def switches() -> dict[str, str]:
    """Flags of other tools -> the column that they switch off."""
    return {name: column.name for column in COLUMNS.values() for name in column.switches}


@cache
def spellings(name: str) -> tuple[str, ...]:
    """`name` as it is, then without the groups in front of it; all `normal`.

    The last word alone counts only where a separator (`.` or `/`) sets it apart.
    """
    parts = [normal(part) for part in re.split(r"[./]", name) if normal(part)]
    out = [normal(name)]
    while len(parts) > 1 and parts[0] in GROUPS:
        parts = parts[1:]
        out.append("_".join(parts))
    return tuple(dict.fromkeys(out))


@cache
def canonical(name: str) -> tuple[str, float] | None:
    """The column that another tool's `name` means and the factor of its values, or None."""
    for spelled in spellings(name):
        if found := _aliases().get(spelled):
            return found
    return None


def extra_name(name: str) -> str:
    """The column that keeps an unknown name."""
    return EXTRA + normal(name)


def checked_column(name: str, place: str) -> str:
    """`name`, if it is a canonical column or `extra.SOMETHING`.

    Raises `BadInput` with near names.
    """
    import difflib

    if name in COLUMNS or (name.startswith(EXTRA) and len(name) > len(EXTRA)):
        return name
    near = difflib.get_close_matches(name, COLUMNS, 3) or list(COLUMNS)[:8]
    raise BadInput(
        f"{place}: there is no column {name!r}; near names: {', '.join(near)}; "
        f"what has none is {EXTRA}{normal(name) or 'name'}"
    )


def is_nothing(value: Any) -> bool:
    """Whether a cell says nothing: empty, None, NaN or a word for it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and value.strip().lower() in NOTHING


def number(value: Any) -> float | None:
    """A number from what a tool wrote (`5e-05` as text too); None where it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and "_" not in value:  # Python takes 2026_04 for a number
        try:
            return float(value)
        except ValueError:
            return None
    return None


def sequence(value: Any) -> list[Any] | None:
    """A list from a list, or from its text: `(0.9, 0.999)`, `[0.9,0.999]`; None where it is none."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.strip()[:1] in "([" and value.strip():
        try:
            found = json.loads("[" + value.strip().strip("()[]").rstrip(",") + "]")
        except ValueError:
            return None
        return found
    return None


def flag(value: Any) -> bool | None:
    """A truth value; a name of weights (`imagenet`) counts as True, nothing as None."""
    if isinstance(value, bool):
        return value
    if is_nothing(value):
        return None
    text = str(value).strip().lower()
    return text not in FALSE


def category(column: str, value: Any) -> str | None:
    """The value of a category in one spelling: `Adam` is `adam`, `CosineAnnealingLR` is `cosine`.

    Of a network's name the folder and the ending of a weights file are cut.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, sort_keys=True, default=str)[:80]
    text = str(value).strip()
    if column == "network":
        if is_nothing(text):
            return None
        text = WEIGHTS.sub("", text)
        if text.startswith(("/", ".", "~", "\\")) or text.count("/") > 1 or "\\" in text:
            text = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
        return text.lower()
    if text.lower() in NOTHING:
        return COLUMNS[column].off
    if text.lower() in FALSE and COLUMNS[column].off is not None:
        return str(COLUMNS[column].off)
    text = text.rsplit(".", 1)[-1] if re.fullmatch(r"[\w.]+\.[A-Za-z]\w+", text) else text
    known = SYNONYMS.get(column, {})
    return known.get(text.lower(), known.get(normal(text), text.lower()))


def parse(column: str, value: Any, factor: float = 1.0) -> Any:
    """A cell of a canonical column in its kind and unit; None where it says nothing.

    Raises ValueError for a value that is not of the kind or outside the plausible range.
    """
    known = COLUMNS[column]
    if known.kind == "category":
        return category(column, value)
    if is_nothing(value):
        return None
    if known.kind == "flag":
        return flag(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        value = value.strip().lower() == "true"
    if value is False and known.off is not None:
        return known.off
    if isinstance(value, bool):
        raise ValueError(f"{value} is no {known.kind}")
    if (several := sequence(value)) and (sizes := [number(v) for v in several]):
        value = sizes[-1] if column == "image_size" else value
    found = number(value)
    if found is None:
        raise ValueError(f"{value!r} is no number")
    if known.unit == "px" and found <= 0:
        return None
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not finite")
    found *= factor
    if not known.low <= found <= known.high:
        raise ValueError(
            f"{found:g} is outside {known.low:g} to {known.high:g}"
            + (f" {known.unit}" if known.unit else "")
        )
    if known.kind == "integer" and found != round(found):
        raise ValueError(f"{found:g} is no whole number")
    return found
