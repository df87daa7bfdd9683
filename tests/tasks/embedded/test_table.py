"""The table of embedded tasks."""

import re

from foretune.tasks.embedded.table import EMBEDDED


def test_names_sources_and_licences_are_given():
    assert len(EMBEDDED) >= 20
    for name, entry in EMBEDDED.items():
        assert name == entry.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert entry.description
        assert entry.source
        assert entry.licence
        assert re.fullmatch(r"[0-9a-f]{16}", entry.hash), name


def test_packages_are_pinned_by_version_and_hash():
    packages = {entry.package for entry in EMBEDDED.values() if entry.package is not None}
    for package in packages:
        assert re.fullmatch(r"[0-9][0-9a-z.]*", package.version)
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    assert len({package.name for package in packages}) == len(packages) == 12


def test_tasks_of_one_source_are_not_the_majority():
    """Leave-one-source-out needs many sources."""
    sources = [entry.source for entry in EMBEDDED.values()]
    assert len(set(sources)) >= 15
    assert max(sources.count(source) for source in sources) <= 3
