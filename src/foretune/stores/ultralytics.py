"""Ultralytics: run folders with `args.yaml` and `results.csv`, and `tune_results.csv` of `tune`.

`metrics/accuracy_top1` is of the validation split, epochs count from 1 (from 0 before version 8.3).
`data` names the data set. `tune_results.csv` has a row an iteration, its fitness, and no curve.
"""

import math
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.vocabulary import number
from foretune.stores.record import Record, Source, files_named, read_csv, read_yaml

GUARANTEED = {"metrics/accuracy_top1": "valid", "metrics/accuracy_top5": "valid"}
# about boxes, files and the machine: nothing that a classifier is tuned by
SILENT = {
    "task",
    "mode",
    "name",
    "exist_ok",
    "single_cls",
    "rect",
    "close_mosaic",
    "profile",
    "overlap_mask",
    "mask_ratio",
    "save_json",
    "conf",
    "iou",
    "max_det",
    "half",
    "dnn",
    "source",
    "vid_stride",
    "stream_buffer",
    "visualize",
    "agnostic_nms",
    "embed",
    "show",
    "line_width",
    "keras",
    "int8",
    "dynamic",
    "simplify",
    "opset",
    "workspace",
    "nms",
    "box",
    "cls",
    "dfl",
    "pose",
    "kobj",
    "nbs",
    "bgr",
    "mosaic",
    "copy_paste",
    "copy_paste_mode",
    "cfg",
    "tracker",
    "split",
    "val",
    "verbose",
    "plots",
    "retina_masks",
    "optimize",
    "time",
    "deterministic",
    "resume",
    "project",
    "cache",
    "device",
    "workers",
    "save",
    "save_period",
    "fraction",
    "save_dir",
    "format",
    "classes",
    "augment",
}


def read(path: Path) -> Source:
    """Read all runs under a folder. Raises `BadInput`."""
    if path.is_file():
        path = path.parent
    source = Source("ultralytics", path.resolve().name, trainer="ultralytics")
    source.splits = dict(GUARANTEED)
    tuned = list(files_named(path, "tune_results.csv"))
    folders = sorted({f.parent for f in files_named(path, "args.yaml")})
    if not tuned and not folders:
        raise BadInput(f"{path} holds no args.yaml or tune_results.csv of Ultralytics")
    for folder in folders:
        args = read_yaml(folder / "args.yaml")
        if args.get("mode", "train") != "train" or args.get("task") not in (None, "classify"):
            source.leave("folders that are no training of a classifier")
            continue
        record = Record(folder.name)
        record.params = {k: v for k, v in args.items() if k not in SILENT and v is not None}
        if args.get("cos_lr") is not None:
            record.params["scheduler"] = "cosine" if record.params.pop("cos_lr") else "linear"
        if (folder / "results.csv").is_file():
            _add_results(record, folder / "results.csv")
        source.records.append(record)
    for file in tuned:
        _add_tuned(source, file)
    return source


def _add_results(record: Record, path: Path) -> None:
    _, rows = read_csv(path)
    for row in rows:
        epoch = number(row.get("epoch", "").strip())
        for name, value in row.items():
            if name == "time":
                record.seconds = number(value.strip())
            elif name != "epoch" and not name.startswith("lr/") and value not in (None, ""):
                record.add(name, math.nan if epoch is None else epoch, value)


def _add_tuned(source: Source, path: Path) -> None:
    head, rows = read_csv(path)
    if "fitness" not in head:
        raise BadInput(f"{path} has no column fitness")
    for k, row in enumerate(rows):
        record = Record(f"{path.parent.name}/iteration-{k + 1}")
        record.params = {n: v for n, v in row.items() if n != "fitness" and n not in SILENT}
        record.add("fitness", math.nan, row["fitness"])
        source.records.append(record)
    if rows and len({row["fitness"] for row in rows}) == 1:
        source.notes.append(
            f"all {len(rows)} iterations of {path.name} have one fitness, {rows[0]['fitness']}: "
            "nothing can be learned from them"
        )
