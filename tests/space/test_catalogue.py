"""The spaces and pools of the catalogue."""

import json
import subprocess
import sys
from pathlib import Path

from foretune.space.catalogue import heavy_pool, hyperrec_space, transfer_pool, transfer_space
from foretune.space.space import Space


def test_pools_are_distinct_and_inside_the_space() -> None:
    space = Space(transfer_space())
    for pool, size in [(transfer_pool(), 108), (heavy_pool(), 40)]:
        assert len(pool) == len({json.dumps(c, sort_keys=True) for c in pool}) == size
        for config in pool:
            space.check(config)


def test_hyperrec_space_has_the_published_names(shared: Path) -> None:
    published = Space.load(shared / "data" / "curves" / "hyperrec" / "space.json")
    assert set(Space(hyperrec_space()).names) == set(published.names)


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, foretune.space.catalogue as s; s.transfer_pool(); s.transfer_space(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
