"""A stranger's Keras script: `python keras_train.py --task low --out FOLDER --lr 0.01`.

Images come in one order in all epochs, so that a training that is resumed sees what an uninterrupted
one sees. (An order of each epoch's own, drawn by a `PyDataset`, does not do: Keras reads ahead in a
thread, and whether before or after `on_epoch_end` is chance.)
"""

import argparse
import math
import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from digits import digits

BATCH = 64


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
        first = int(model.optimizer.iterations) // math.ceil(len(y) / BATCH)
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
        X,
        y,
        batch_size=BATCH,
        shuffle=False,
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
