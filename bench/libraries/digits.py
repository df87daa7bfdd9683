"""Real images that come with scikit-learn: handwritten digits of 8 x 8 pixels, as two like tasks.

python bench/libraries/digits.py low FOLDER      writes them as FOLDER/{train,val}/DIGIT/*.png
"""

import sys
from pathlib import Path

import numpy as np

TASKS = {"low": range(5), "high": range(5, 10)}


def digits(task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images (n, 8, 8) float32 in 0..1 and labels (n,) int64 from 0, then the validation
    ones: each third image.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    kept = np.isin(labels, list(TASKS[task]))
    X = (images[kept].reshape(-1, 8, 8) / 16).astype("float32")
    y = labels[kept].astype("int64") - min(TASKS[task])
    valid = np.arange(len(y)) % 3 == 0
    return X[~valid], y[~valid], X[valid], y[valid]


def write_folder(task: str, folder: Path) -> None:
    """The images as files, a folder a class, as many trainers want them."""
    from PIL import Image

    X, y, Xv, yv = digits(task)
    for part, images, labels in (("train", X, y), ("val", Xv, yv)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).astype("uint8")).resize((32, 32)).save(path)


if __name__ == "__main__":
    write_folder(sys.argv[1], Path(sys.argv[2]))
