"""Reproducible speed comparisons, each with a named peer, in one run on one machine."""
