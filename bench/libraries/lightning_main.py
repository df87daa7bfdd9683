"""A stranger's script on LightningCLI: `python lightning_main.py fit --data.task low`.

The order of an epoch's images is a function of seed and epoch, so that a training that is resumed
sees what an uninterrupted one sees.
"""

import torch
from digits import digits
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Digits(LightningDataModule):
    """The images of a task."""

    def __init__(self, task: str = "low", batch_size: int = 64):
        super().__init__()
        X, y, Xv, yv = (torch.from_numpy(a) for a in digits(task))
        self.train_set, self.valid_set = (
            TensorDataset(X[:, None], y),
            TensorDataset(Xv[:, None], yv),
        )
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        order = DistributedSampler(self.train_set, num_replicas=1, rank=0, seed=0)
        return DataLoader(self.train_set, self.batch_size, sampler=order)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.valid_set, 512)


class Net(LightningModule):
    """A tiny network with a random start."""

    def __init__(self, learning_rate: float = 1e-2, weight_decay: float = 1e-4):
        super().__init__()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)
        )

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch, index):
        right = (self.layers(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("val_acc", right, on_epoch=True, on_step=False)

    def configure_optimizers(self):
        return torch.optim.SGD(
            self.parameters(), self.learning_rate, momentum=0.9, weight_decay=self.weight_decay
        )


if __name__ == "__main__":
    LightningCLI(Net, Digits, save_config_callback=None)
