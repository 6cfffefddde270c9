"""Run as ``python -m featurebench.cli``."""

from featurebench.cli import main

main()
