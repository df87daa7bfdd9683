"""Lightning's CSVLogger: `version_N/metrics.csv` (sparse rows by step) and `hparams.yaml`.

Epochs count from 0. A validation after the end of training (`trainer.validate`) is logged at the
epoch after the last one, as if it were one more: rows of an epoch without training rows, after the
last with some, are left out of the curve.
"""

import math
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.vocabulary import number
from foretune.stores.metrics import understood
from foretune.stores.record import Record, Source, files_named, flat, read_csv, read_yaml


def read(path: Path) -> Source:
    """Read all versions under a folder. Raises `BadInput`."""
    if path.is_file():
        path = path.parent
    folders = sorted({f.parent for f in files_named(path, "hparams.yaml", "metrics.csv")})
    if not folders:
        raise BadInput(f"{path} holds no version_N folders of Lightning's CSVLogger")
    source = Source("lightning", path.resolve().name)
    source.first, source.trainer = 0, "lightning"
    extra = 0
    for folder in folders:
        record = Record(folder.name)
        if (folder / "hparams.yaml").is_file():
            settings = flat(read_yaml(folder / "hparams.yaml"))
            record.params = {k: v for k, v in settings.items() if v is not None}
        if (folder / "metrics.csv").is_file():
            extra += _add_metrics(record, folder / "metrics.csv")
        source.records.append(record)
    if extra:
        source.notes.append(
            f"{extra} runs were validated once more after training: that value is no epoch's and "
            "is left out"
        )
    return source


def _add_metrics(record: Record, path: Path) -> bool:
    """Fill the curves; whether a validation after training was left out."""
    head, rows = read_csv(path)
    if "epoch" not in head:
        raise BadInput(f"{path} has no column epoch")
    trained = [n for n in head if understood(n).split == "train"]
    last = max(
        (number(r["epoch"]) or 0.0 for r in rows if any(r.get(n) for n in trained)),
        default=math.inf,
    )
    left_out = False
    for row in rows:
        epoch = number(row["epoch"])
        for name, value in row.items():
            if name in ("epoch", "step") or value in (None, ""):
                continue
            split = understood(name).split
            if epoch is not None and epoch > last and split == "valid":
                left_out = True
                continue
            record.add(name, math.nan if epoch is None else epoch, value)
    return left_out
