"""Write the table of what networks compute (`foretune.training.workload`).

    python -m foretune.pipeline.network_costs [--largest 130] [--out FILE]

Takes an hour of one core. A network that is in the file already is not counted again,
so that a run that was stopped goes on.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from foretune.errors import BadInput
from foretune.training.architectures import ARCHITECTURES, library_names
from foretune.training.workload import TABLE, Workload, counted, table

DIGITS = 5
FIRST = re.compile(
    "resnet|convnext|vit_(tiny|small|base)|deit|efficientnet|tf_efficientnet|mobilenet|swin|regnet|"
    "densenet|mobilevit|maxvit_(tiny|small)|beit|eva02|caformer|edgenext|fastvit|levit|poolformer"
)


def row_of(work: Workload) -> dict[str, object]:
    """A line of the file: numbers to five digits, truth values as 0 and 1."""
    return {
        k: int(v)
        if isinstance(v, bool)
        else float(f"{v:.{DIGITS}g}")
        if isinstance(v, float)
        else v
        for k, v in asdict(work).items()
    }


def names_with_weights() -> Iterator[str]:
    """Our own, torchvision's, and those of timm that anybody has trained."""
    import timm

    yield from ARCHITECTURES
    yield from (f"torchvision:{name}" for name in library_names()["torchvision"])
    trained = {name.partition(".")[0] for name in timm.list_models(pretrained=True)}
    # the families that people fine-tune first: a run may be stopped
    yield from (f"timm:{name}" for name in sorted(trained, key=lambda n: (not FIRST.match(n), n)))


def main(argv: list[str] | None = None) -> int:
    """Count every network of both libraries up to a size."""
    parser = argparse.ArgumentParser(prog="python -m foretune.pipeline.network_costs")
    parser.add_argument("--largest", type=float, default=130, help="1e6 parameters (default: 130)")
    parser.add_argument("--out", type=Path, default=TABLE, metavar="FILE")
    args = parser.parse_args(argv)
    known = dict(table(args.out))
    names = list(names_with_weights())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    left_out = 0
    with args.out.open("w" if not known else "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Workload)], lineterminator="\n")
        if not known:
            writer.writeheader()
        for name in names:
            if name in known:
                continue
            try:
                work = counted(name, args.largest)
            except BadInput as error:
                left_out += 1
                print(error, file=sys.stderr)
                continue
            writer.writerow(row_of(work))
            file.flush()
    print(f"{args.out}: {len(table.__wrapped__(args.out))} networks, {left_out} cannot be counted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
