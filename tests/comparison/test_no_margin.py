"""Without a declared margin only better and worse are said, and nothing reads as a margin of 0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from across_cases import comparison
from comparison_cases import Cohort, arm, draw_results

from featurebench.comparison import compare
from featurebench.comparison.across import compare_across
from featurebench.comparison.contrasts import contrast_arms

if TYPE_CHECKING:
    from featurebench.comparison import Contrast

ARMS = [arm("net+logistic"), arm("net+knn"), arm("net+full", "finetune"), arm("dummy", "baseline")]
CAVEAT = "No margin was declared (compare.margin), so only better and worse can be claimed"


def test_a_margin_is_never_used_silently() -> None:
    found = compare(draw_results(ARMS), n_boot=50)
    assert found.margin == 0
    assert any(caveat.startswith(CAVEAT) for caveat in found.caveats)
    assert all(each.relevance == "open" and each.n_needed_high is None for each in found.contrasts)
    text = " ".join([found.verdict, *found.others])
    assert "margin" not in text
    assert "P(within" not in text
    assert ("P(gain > 0 pp)" in text) or ("P(loss > 0 pp)" in text)


def test_better_is_still_claimed() -> None:
    strong = [ARMS[0], arm("net+full", "finetune", signal=3.0), ARMS[3]]
    found = compare(draw_results(strong, Cohort(n_patients=60)), n_boot=50)
    assert found.contrasts[0].outcome == "better"
    assert "fine-tuning is better than the frozen probe." in found.verdict


@pytest.mark.parametrize("outcome", ["equivalent", "non-inferior", "not superior"])
@pytest.mark.parametrize(("margin", "is_kept"), [(None, False), (0.0, False), (0.01, True)])
def test_claims_on_a_size_need_a_margin(
    outcome: Any, margin: float | None, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resampled p-value and a normal one may differ, so that even against 0 one of them holds."""

    def settled(*args: Any, **kwargs: Any) -> tuple[Contrast, ...]:
        return tuple(
            replace(each, outcome=outcome, relevance="beyond the margin")
            for each in contrast_arms(*args, **kwargs)
        )

    monkeypatch.setattr("featurebench.comparison.analysis.contrast_arms", settled)
    contrast = compare(draw_results(ARMS), margin=margin, n_boot=20).contrasts[0]
    expected = (outcome, "beyond the margin") if is_kept else ("not resolved", "open")
    assert (contrast.outcome, contrast.relevance) == expected


def test_with_a_margin_there_is_no_such_caveat() -> None:
    found = compare(draw_results(ARMS), margin=0.02, n_boot=20)
    assert not any("margin" in caveat for caveat in found.caveats)


def test_a_mean_over_data_sets_needs_a_margin_for_claims_on_a_size() -> None:
    differences = {"a": 0.001, "b": -0.001, "c": 0.0, "d": 0.001}
    effects = {name: comparison(value, (0.002, 0.002)) for name, value in differences.items()}
    assert compare_across(effects).outcome == "equivalent"
    bare = compare_across({name: replace(each, margin=0.0) for name, each in effects.items()})
    assert bare.outcome == "not resolved"
    assert any(note.startswith("No margin was declared") for note in bare.notes)
