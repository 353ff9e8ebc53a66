"""`python -m midspan.server` is `midspan`."""

import sys

from midspan.server.cli import main

sys.exit(main())
