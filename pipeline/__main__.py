"""`python -m pipeline`: the command line, which is `pipeline/cli.py`."""

from pipeline.cli import run_and_exit

if __name__ == "__main__":
    run_and_exit()
