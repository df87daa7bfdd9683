"""`foretune.tune` from Python: images, or a function that trains.

foretune.tune("photos/", budget=100)
foretune.tune(train, space, budget=100, max_epoch=10)
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput
from foretune.running.code_question import function_question
from foretune.running.code_study import CodeTuned
from foretune.running.options import filled, options_of, refuse_unknown
from foretune.running.request import Request
from foretune.running.tuning import Tuned
from foretune.running.tuning import tune as tune_images
from foretune.running.workers import end_where_main_is_imported
from foretune.space.space import Space
from foretune.space.written import of_file
from foretune.space.written import space_of as written

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from foretune.running.objectives.function import Trial

Trained = Callable[[dict[str, Any], "Trial"], object]


def tune(
    trained: "str | Path | Trained",
    space: "Space | ConfigurationSpace | Mapping[str, Any] | str | Path | None" = None,
    *,
    budget: int | None = None,
    minutes: float | None = None,
    **options: Any,
) -> Tuned | CodeTuned:
    """Find the best hyperparameters for a folder of images, or of a function that trains; or
    continue to.

    Images are tuned by our own trainer, without a report (`foretune.running.tuning.tune`). A
    function is called as `function(config, trial)` (`foretune.running.objectives.function.Trial`)
    in `workers` processes, which import the script that calls this: call it under
    `if __name__ == "__main__":`. It is shown, logged to MLflow and reported as `foretune tune`
    does. Its options are those of `foretune tune` that fit, and

        max_epoch   epochs of a full training (default: 10)
        metric      the name of what is reported (default: value)
        goal        maximize or minimize (default: maximize)
        task        what is trained on (default: the function's name)
        resume      whether the function goes on from `trial.resume` (default: True); else every
                    trial is a whole training
        tracking    MLflow's address, or none (default: as `foretune tune` has it)
        workers     processes (default: 2); 0 trains in this one

    Raises `BadInput`, before anything is written, for what cannot be used.
    """
    if not callable(trained):
        if space is not None and not isinstance(space, (str, Path)):
            raise BadInput(
                f"foretune.tune(images, space): the space must be a preset's name or the path of its "
                f"YAML or JSON file, not {type(space).__name__}"
            )
        named: dict[str, Any] = {} if space is None else {"space": str(space)}
        return tune_images(trained, budget=budget, minutes=minutes, **named, **options)
    end_where_main_is_imported()
    if space is None:
        raise BadInput(
            "foretune.tune(function, space): the search space must be given: a mapping such as "
            "{'learning_rate': {'low': 1e-5, 'high': 0.1, 'log': True}, 'optimizer': ['adamw', "
            "'sgd']}, a ConfigSpace ConfigurationSpace, a foretune.Space or the path of its file"
        )
    from foretune.commands.tune_code import tune_code

    own = ("max_epoch", "metric", "goal", "task", "resume")
    tracking = options.pop("tracking", None)
    of_function = {name: options.pop(name) for name in own if name in options}
    settable = [one.name for one in options_of(Request, leave=("images", "script", "settings"))]
    for name in options:
        refuse_unknown(name, sorted({*settable, *own, "tracking"}))
    in_process = options.get("workers") == 0
    asked = {
        **options,
        "budget": budget,
        "minutes": minutes,
        **({"workers": 1} if in_process else {}),
    }
    request = filled(Request, {"images": "", **asked})
    question = function_question(
        trained, space_of(space), request, in_process=in_process, **of_function
    )
    return tune_code(question, tracking).tuned


def space_of(given: Any) -> Space:
    """A space as the caller has it: entries as in a YAML file (`foretune.space.written`), where a
    tuple (low, high) is a range too; ConfigSpace's own objects; a path. Raises `BadInput`.
    """
    if isinstance(given, Space):
        return given
    if isinstance(given, (str, Path)):
        return of_file(given)
    if hasattr(given, "to_serialized_dict"):
        return Space(given)
    if not isinstance(given, Mapping):
        raise BadInput(
            f"the search space {given!r:.80} is of type {type(given).__name__}: a mapping such as "
            "{'lr': {'low': 1e-4, 'high': 0.1}}, a ConfigurationSpace or a path would be right"
        )
    if "hyperparameters" in given:
        return Space(given)
    try:
        if any(hasattr(entry, "default_value") for entry in given.values()):
            from ConfigSpace import ConfigurationSpace

            return Space(ConfigurationSpace(dict(given)))
        return written({name: as_range(entry) for name, entry in given.items()})
    except (TypeError, ValueError) as error:
        raise BadInput(f"the search space {given!r} is none: {error}") from error
    except BadInput as error:
        raise BadInput(f"the search space {error}") from error


def as_range(entry: Any) -> Any:
    """ConfigSpace's short form of a range, the tuple (low, high), as a YAML file has it."""
    if isinstance(entry, tuple) and len(entry) == 2 and not any(isinstance(e, str) for e in entry):
        return {"low": entry[0], "high": entry[1]}
    return list(entry) if isinstance(entry, tuple) else entry
