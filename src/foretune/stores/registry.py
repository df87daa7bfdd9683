"""The tables that `foretune import` reads: name -> module with `convert(src, dest)`."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from foretune.errors import BadInput

if TYPE_CHECKING:
    from foretune.history.meta_dataset import MetaDataset

IMPORTERS: dict[str, str] = {
    "hyperrec": "foretune.stores.hyperrec",
    "lcbench": "foretune.stores.lcbench",
    "taskset": "foretune.stores.taskset",
    "nasbench201": "foretune.stores.nasbench201",
    "lemur": "foretune.stores.lemur",
}


def import_table(name: str, src: Path | str, dest: Path | str) -> "MetaDataset":
    """Read the published table `name` from `src` and write it as a meta-dataset to `dest`.

    Raises `BadInput`.
    """
    if name not in IMPORTERS:
        raise BadInput(f"no importer {name!r}; there are {', '.join(IMPORTERS)}")
    if not Path(src).exists():
        raise BadInput(f"{src} does not exist")
    return importlib.import_module(IMPORTERS[name]).convert(src, dest)
