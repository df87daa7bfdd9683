"""The notes on what the committed tables were made by."""

import json
from pathlib import Path

from foretune.pipeline.made import Made


def test_tables_stand_where_every_part_has_its_fingerprint(tmp_path: Path) -> None:
    made = Made(tmp_path, "siamese")
    assert made.fingerprint("a") is None and not made.stands({"a": "1"})
    made.write({"a": "1", "b": "2"})
    again = Made(tmp_path, "siamese")
    assert again.stands({"a": "1", "b": "2"}) and again.stands({"b": "2"}) and again.stands({})
    assert not again.stands({"a": "1", "b": "3"}) and not again.stands({"c": "1"})
    assert not Made(tmp_path, "task_aware").stands({"a": "1"})


def test_what_was_compared_stays_noted_as_long_as_the_fingerprint(tmp_path: Path) -> None:
    Made(tmp_path, "siamese").write({"a": "1", "b": "2"}, {"a": "1 of 9 sources"})
    Made(tmp_path, "siamese").write({"a": "1"})
    notes = json.loads((tmp_path / "made" / "siamese.json").read_text(encoding="utf-8"))
    assert notes == {
        "a": {"compared": "1 of 9 sources", "fingerprint": "1"},
        "b": {"fingerprint": "2"},
    }
    Made(tmp_path, "siamese").write({"a": "3"})  # made whole by other code: no sample stands for it
    assert Made(tmp_path, "siamese").notes["a"] == {"fingerprint": "3"}
