"""`python -m foretune` is `foretune`."""

import sys

from foretune.cli import main

sys.exit(main())
