"""`foretune export`: the model that a study handed over, for those who have no foretune."""

import argparse

from foretune.commands.cli import check_output
from foretune.errors import BadInput


def run(args: argparse.Namespace) -> int:
    """Write, check, say how it is loaded."""
    from foretune.training.export import IMAGES, SUFFIXES, check_kind, export
    from foretune.training.model_file import Model

    check_kind(args.to)
    path = args.out or args.model.with_name(f"{args.model.stem}{SUFFIXES[args.to]}")
    check_output(path)
    if path.resolve() == args.model.resolve():
        raise BadInput(f"--out {path} is the model itself; give another file")
    done = export(Model.load(args.model), args.to, path)
    print(f"{done.path}: {done.loaded_by}")
    print(
        f"  read back and run on {IMAGES} images beside the original: probabilities differ by "
        f"{done.difference:.1g} at most"
    )
    print(f"  what it takes and gives: {done.path}.json")
    return 0
