"""Entry point of ``python -m benchmarks.probes``."""

from __future__ import annotations

from benchmarks.probes.run import main

if __name__ == "__main__":
    main()
