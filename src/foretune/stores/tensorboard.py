"""TensorBoard log folders: a run is a folder with event files, its `train/` and `validation/`
inside are parts of it (Keras writes so).

Settings are read from `hparams.yaml`, `args.yaml` or `config.yaml` beside the files, where there is
one. Tags by iterations (`evaluation_accuracy_vs_iterations`) are passed over where a tag by epochs
is there.
"""

import re
from pathlib import Path

from foretune.errors import BadInput
from foretune.stores.metrics import SPLITS
from foretune.stores.record import Record, Source, files_named, flat, read_yaml
from foretune.stores.tfrecord import scalars

SETTINGS = ("hparams.yaml", "args.yaml", "config.yaml")
EVENTS = "*tfevents*"
STARTED = re.compile(r"tfevents\.(\d{9,11})\.")


def read(path: Path) -> Source:
    """Read all runs under a folder, or one event file. Raises `BadInput`."""
    files = [path] if path.is_file() else list(files_named(path, EVENTS))
    if not files:
        raise BadInput(f"{path} holds no event files (events.out.tfevents.*) of TensorBoard")
    source = Source("tensorboard", path.resolve().name)
    runs: dict[Path, Record] = {}
    times: dict[Path, list[float]] = {}
    for file in files:
        part = SPLITS.get(file.parent.name.lower())
        folder = file.parent.parent if part and file.parent != path else file.parent
        record = runs.setdefault(folder, Record(folder.name))
        for wall, step, tag, value in scalars(file):
            record.add(f"{file.parent.name}/{tag}" if part else tag, float(step), value)
            times.setdefault(folder, []).append(wall)
        if begun := STARTED.search(file.name):
            times.setdefault(folder, []).append(float(begun[1]))
    for folder, record in runs.items():
        for name in SETTINGS:
            if (folder / name).is_file() and not record.params:
                record.params = flat(read_yaml(folder / name))
        if seen := times.get(folder):
            record.seconds = max(seen) - min(seen)
        record.params = {k: v for k, v in record.params.items() if v is not None}
        for points in record.series.values():
            points.sort(key=lambda point: point[0])
    source.records = list(runs.values())
    if not any(r.params for r in source.records):
        source.notes.append("no settings lie beside the event files: the runs teach values only")
    return source
