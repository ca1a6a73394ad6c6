"""`python -m agent.cli`: the `gaia` command."""

import sys

from agent.cli import main

sys.exit(main())
