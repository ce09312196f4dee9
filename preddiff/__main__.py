"""Runs the command line as `python -m preddiff`."""

from preddiff.cli import main

if __name__ == "__main__":
    main()
