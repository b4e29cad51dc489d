"""What ``pip install`` of this folder runs: a refusal. Installed, ``evaluate`` and ``metrics`` would hide packages of
these names."""

import sys

sys.exit("Likeness is not installed, it runs from its checkout: `make setup`, then .venv/bin/python train.py --help")
