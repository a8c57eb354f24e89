"""`python -m lapsbench`: the command line of a checkout that is not installed."""

from lapsbench.cli import main

if __name__ == "__main__":
    main()
