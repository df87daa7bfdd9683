"""Pictures that stand on the benchmark page as they are: SVG files with their own style."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from foretune.errors import BadInput

PICTURES = (
    ("at2/figure1.svg", "AT2 and its rivals on the paper's pairs (figures 1, 4 and 15)"),
    ("at2/figure3.svg", "Predicted against true distance (figures 3 and 6 to 13)"),
    ("at2/figure5-HyperRec.svg", "AT2's forecasts, HyperRec (figure 5)"),
    ("at2/figure5-LCBench.svg", "AT2's forecasts, LCBench (figure 14)"),
    (
        "autohyper/figure1a.svg",
        "Z beside the training loss, Adam on the residual network (figure 1a)",
    ),
    ("autohyper/figure2-plain.svg", "Z by learning rate, plain network (figure 2)"),
    ("autohyper/figure2-residual.svg", "Z by learning rate, residual network (figure 2)"),
    ("autohyper/figure2-separable.svg", "Z by learning rate, separable network (figure 2)"),
    (
        "autohyper/figure3.svg",
        "Trials until the search ended, by optimizer, network and task (figure 3)",
    ),
    ("autohyper/figure4.svg", "Z and its running product along a search (figure 4)"),
    ("autohyper/figure6.svg", "Z over learning rate and batch size (figure 6)"),
    ("autohyper/figure7.svg", "Z over 15 epochs, plain network (figure 7)"),
    ("autohyper/figure8.svg", "Z over 15 epochs, residual network (figure 8)"),
)


def pictures(reports: Path) -> Iterator[tuple[str, str]]:
    """Title and `data:` address of every picture that there is.

    Raises `BadInput` for a file that is none.

    As images they keep their styles to themselves, and nothing in them can run.
    """
    for file, title in PICTURES:
        if (path := reports / file).is_file():
            content = path.read_bytes()
            if not content.lstrip().startswith(b"<svg"):
                raise BadInput(f"{path} is not an SVG picture")
            yield title, f"data:image/svg+xml;base64,{b64encode(content).decode()}"
