"""`python -m devsync` is `devsync`."""

import sys

from devsync.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
