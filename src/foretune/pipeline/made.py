"""By what the committed tables of a stage were made: `data/reports/made/STAGE.json`.

A table that is made of many runs does not hold them, and where their cache is (`.cache`) no fresh
clone has them. So that it need not make them again, every part of the work (a method, a fold) is
noted with its fingerprint: what it read, how much of it, and the digest of its code
(`foretune.pipeline.digests`). Tables all of whose parts still have that fingerprint stand as they
are. Parts that other code made stand as well where someone asked for a comparison (`--compare N`)
and all that was made again was equal; the note says how much that was.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.files import write_json


class Made:
    """The notes of one stage on the parts of its work, by name."""

    def __init__(self, reports: Path, stage: str):
        self.file = reports / "made" / f"{stage}.json"
        self.notes: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            self.notes = json.loads(self.file.read_text(encoding="utf-8"))

    def fingerprint(self, part: str) -> str | None:
        """That by which a part was made; None where it is not known."""
        return self.notes.get(part, {}).get("fingerprint")

    def stands(self, wanted: Mapping[str, str]) -> bool:
        """Whether all parts were made by the `wanted` fingerprints."""
        return all(self.fingerprint(part) == want for part, want in wanted.items())

    def write(self, wanted: Mapping[str, str], compared: Mapping[str, str] | None = None) -> None:
        """Note the parts. What was `compared`, in words, stays noted for as long as the fingerprint
        does.
        """
        for part, want in wanted.items():
            said = (compared or {}).get(part)
            if said or self.fingerprint(part) != want:
                self.notes[part] = {"fingerprint": want} | ({"compared": said} if said else {})
        write_json(self.file, dict(sorted(self.notes.items())))
