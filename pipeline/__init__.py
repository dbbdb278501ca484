"""The machinery behind the stages, one package for each job; `cli.py` is the command line."""
