"""What each arm bears of the embeddings that several arms read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from featurebench.results.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.results.run import RunResult


def extraction_shares(runs: Sequence[RunResult]) -> dict[str, Cost]:
    """Share each embedding's cost out in equal parts over the arms that read it.

    Parameters
    ----------
    runs
        All arms of an experiment.

    Returns
    -------
    dict
        By arm; ``Cost()`` for one that reads no embedding.
    """
    n_readers = Counter(name for run in runs for name in embeddings_read(run))
    return {
        run.arm: sum(
            (cost.part_of(n_readers[name]) for name, cost in embeddings_read(run).items()), Cost()
        )
        for run in runs
    }


def embeddings_read(run: RunResult) -> Mapping[str, Cost]:
    """Give what each embedding took that an arm reads, by name; empty where it reads none.

    Runs written before that was recorded name one only.
    """
    if run.embedding_costs or run.embedding is None:
        return run.embedding_costs
    return {run.embedding: run.extraction_cost}
