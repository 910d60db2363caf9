"""`python -m netloupe` is the command line."""

import sys

from netloupe.cli.app import main

sys.exit(main())
