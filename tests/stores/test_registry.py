"""The table of importers."""

import importlib
import inspect
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.stores.registry import IMPORTERS, import_table


@pytest.mark.parametrize("name", IMPORTERS)
def test_each_importer_converts(name: str):
    convert = importlib.import_module(IMPORTERS[name]).convert
    assert list(inspect.signature(convert).parameters) == ["src", "dest"]


def test_unknown_names_and_missing_sources_are_told(tmp_path: Path):
    with pytest.raises(BadInput, match="hyperrec"):
        import_table("hyperec", tmp_path, tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        import_table("taskset", tmp_path / "nowhere", tmp_path)
