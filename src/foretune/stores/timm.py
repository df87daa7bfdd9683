"""timm's `train.py`: a folder a run with `summary.csv` (a row an epoch) and `args.yaml`.

`lr` in summary.csv is the schedule's value at that epoch, no setting: the setting is in args.yaml.
`eval_top1` is in percent, epochs count from 0.
"""

import math
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.vocabulary import number
from foretune.stores.record import Record, Source, files_named, read_csv, read_yaml


def read(path: Path) -> Source:
    """Read all runs under a folder, or the one of a `summary.csv`. Raises `BadInput`."""
    files = [path] if path.is_file() else list(files_named(path, "summary.csv"))
    if not files:
        raise BadInput(f"{path} holds no summary.csv of timm's train.py")
    source = Source("timm", path.parent.name if path.is_file() else path.name)
    source.first, source.trainer = 0, "timm"
    for file in files:
        head, rows = read_csv(file)
        if "epoch" not in head:
            source.leave("summary.csv without a column epoch")
            continue
        record = Record(file.parent.name)
        args = file.parent / "args.yaml"
        if args.is_file():
            record.params = read_yaml(args)
            record.params = {k: v for k, v in record.params.items() if v is not None}
        else:
            source.leave("runs without args.yaml: their settings are not known")
        for row in rows:
            step = number(row["epoch"])
            for name, value in row.items():
                if name not in ("epoch", "lr") and value not in (None, ""):
                    record.add(name, math.nan if step is None else step, value)
        source.records.append(record)
    if source.aside:
        source.notes.append("the task of a run without args.yaml is not known: give --task NAME")
    return source
