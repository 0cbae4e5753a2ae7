"""``python -m fuseswap``: the command line."""

import sys

from fuseswap.cli import main

sys.exit(main())
