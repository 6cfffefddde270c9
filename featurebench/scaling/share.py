"""Share: the n-th of so many equal parts of the blocks, as a job array deals them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from featurebench.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """One of several equal parts of the blocks.

    Parameters
    ----------
    index
        Which part, from 0.
    count
        Number of parts.

    Raises
    ------
    ConfigError
        If ``index`` is not below ``count``, or either is negative.

    Examples
    --------
    >>> [block for block in range(8) if Share(index=2, count=3).takes(block)]
    [2, 5]
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"share {self.index} of {self.count} does not exist; "
                "give a count of 1 or more and an index from 0 to count - 1"
            )

    def takes(self, block_index: int) -> bool:
        """Tell whether the block is in this share; each block is in exactly one of ``count``."""
        return block_index % self.count == self.index

    def __str__(self) -> str:
        """Write the share as `parse_share` reads it."""
        return f"{self.index + 1}/{self.count}"


def parse_share(text: str) -> Share:
    """Read a share as people and job arrays write it: ``3/8`` is the third of eight.

    Parameters
    ----------
    text
        ``number/count``, the number from 1 to count.

    Returns
    -------
    Share
        With its index counted from 0.

    Raises
    ------
    ConfigError
        If the text is of another form, or the number is not from 1 to count.

    Examples
    --------
    >>> parse_share("3/8")
    Share(index=2, count=8)
    """
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text, flags=re.ASCII)
    if found is None:
        raise ConfigError(
            f"share {text!r} is not of the form number/count; give, for instance, 3/8"
        )
    number, count = int(found[1]), int(found[2])
    if not 1 <= number <= count:
        raise ConfigError(
            f"share {text!r} does not exist: shares count from 1/{max(count, 1)} to "
            f"{max(count, 1)}/{max(count, 1)}; submit the array with --array=1-{max(count, 1)}, "
            "so that SLURM_ARRAY_TASK_ID starts at 1"
        )
    return Share(index=number - 1, count=count)
