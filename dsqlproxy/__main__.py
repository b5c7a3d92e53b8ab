"""``python -m dsqlproxy`` is ``dsqlproxy``."""

import sys

from dsqlproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
