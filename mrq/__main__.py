"""`python -m mrq COMMAND ...`, the same as `mrq COMMAND ...`."""

import sys

from mrq.cli import main

if __name__ == "__main__":
    sys.exit(main())
