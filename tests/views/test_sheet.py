"""The sheet of a task's images."""

import numpy as np
from toy_images import make_task

from foretune.views.sheet import sheet, sheet_png


def test_sheet_shows_a_row_per_class():
    task = make_task(per_class=10, classes=3)
    page = np.asarray(sheet(task, per_class=4, px=20))
    assert page.shape[0] == 3 * 22
    first = task.images[(task.split == 0) & (task.labels == 1)][0]
    assert (
        abs(page[22:42, page.shape[1] - 4 * 22 : page.shape[1] - 4 * 22 + 20].mean() - first.mean())
        < 4
    )
    assert sheet_png(task).startswith(b"\x89PNG")
