"""`python -m mrq.submit JOB INPUT... -o OUT`, the same as `mrq submit JOB INPUT... -o OUT`."""

import sys

from mrq.cli import main

if __name__ == "__main__":
    sys.exit(main(["submit", *sys.argv[1:]]))
