"""`python -m foretune` is `foretune`."""

import sys

from foretune.commands.cli import main

sys.exit(main())
