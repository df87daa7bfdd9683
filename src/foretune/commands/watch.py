"""`foretune watch`: one live page of a study, while it runs."""

import argparse
from pathlib import Path

from foretune.errors import BadInput
from foretune.running.presence import running
from foretune.running.studies import all_studies, find_study
from foretune.views.server import LiveServer


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    folder = find_study(args.study, args.data) if args.study else newest(args.data)
    with LiveServer(folder, args.port) as server:
        print(f"study {folder.name}: {server.address}\nCtrl-C ends this page, not the study")
        if args.browser:
            import webbrowser

            webbrowser.open(server.address)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print()
    return 0


def newest(data: Path) -> Path:
    """The study that is being run, the newest of several; else the one that was worked on last.
    Raises `BadInput` where there is none.
    """

    def worked_on(folder: Path) -> float:
        journal = folder / "journal.jsonl"
        return journal.stat().st_mtime if journal.exists() else 0.0

    folders = all_studies(data)
    if not folders:
        raise BadInput(
            f"no studies in {data / 'studies'} yet; start one with: foretune tune IMAGES"
        )
    return max(folders, key=lambda f: (running(f) is not None, worked_on(f)))
