"""A stranger's Keras script: `python keras_train.py --task low --out FOLDER --lr 0.01`.

The order of an epoch's images is a function of the epoch, so that a training that is resumed sees
what an uninterrupted one sees.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np
from digits import digits


class Batches(keras.utils.PyDataset):
    """Batches of 64 in an order of each epoch's own."""

    def __init__(self, X, y, epoch: int):
        super().__init__()
        self.X, self.y, self.epoch = X, y, epoch

    def __len__(self) -> int:
        return (len(self.y) + 63) // 64

    def __getitem__(self, i: int):
        order = np.random.default_rng(self.epoch).permutation(len(self.y))[i * 64 : (i + 1) * 64]
        return self.X[order], self.y[order]

    def on_epoch_end(self) -> None:
        self.epoch += 1


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("task", "out", "resume"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--units", type=int, default=16)
    asked = parser.parse_args()
    keras.utils.set_random_seed(0)
    X, y, Xv, yv = digits(asked.task)
    first, log = 0, os.path.join(asked.out, "log.csv")
    if asked.resume:
        model = keras.saving.load_model(asked.resume)
        # what the checkpoint has seen, whatever the log says: a kill may fall between the two
        first = int(model.optimizer.iterations) // len(Batches(X, y, 0))
    else:
        model = keras.Sequential(
            [
                keras.Input((8, 8)),
                keras.layers.Flatten(),
                keras.layers.Dense(asked.units, activation="relu"),
                keras.layers.Dense(5, activation="softmax"),
            ]
        )
        model.compile(
            keras.optimizers.Adam(asked.lr),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(
        Batches(X, y, first),
        validation_data=(Xv, yv),
        epochs=asked.epochs,
        initial_epoch=first,
        verbose=2,
        callbacks=[
            keras.callbacks.ModelCheckpoint(os.path.join(asked.out, "last.keras")),
            keras.callbacks.CSVLogger(log, append=bool(asked.resume)),
        ],
    )


if __name__ == "__main__":
    main()
