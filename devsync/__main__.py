"""`python -m devsync`: the command line, for whoever has the interpreter but not the script."""

import sys

from devsync.cli.main import main

sys.exit(main())
