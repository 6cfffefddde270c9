"""What arms are called in running text: method and network, without tags and hashes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from featurebench.comparison.training import describe, is_cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison.model import ArmSummary, Comparison

METHODS = {
    "logistic": "logistic regression",
    "ridge": "ridge classifier",
    "lda": "linear discriminant analysis",
    "linear_svm": "linear SVM",
    "rbf_svm": "RBF SVM",
    "knn": "k-nearest neighbours",
    "centroid": "nearest centroid",
    "mlp": "multilayer perceptron",
    "random_forest": "random forest",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
}
CHOSEN = {
    "probe": "the best frozen probe",
    "finetune": "the best fine-tuned network",
    "baseline": "the best baseline",
}
"""What an arm is called that was put together from those chosen fold by fold."""


def name_arms(arms: Sequence[ArmSummary]) -> dict[str, str]:
    """Name every arm such as ``logistic regression on resnet50`` or ``fine-tuned resnet50``.

    An arm whose name would not be its own alone keeps its identity.
    """
    named = {arm.arm: _name(arm) for arm in arms}
    uses = Counter(named.values())
    return {arm: name if uses[name] == 1 else arm for arm, name in named.items()}


def in_words(comparison: Comparison) -> Comparison:
    """Return the comparison with its arms' names in place of their identities.

    A fine-tune's name says what it was given, too: ``fine-tuned resnet50 (64 px, 3 epochs)``.
    """
    short = name_arms(comparison.arms)
    names = {arm.arm: _with_training(short[arm.arm], arm) for arm in comparison.arms}

    def counts(chosen: Mapping[str, int]) -> dict[str, int]:
        return {names[arm]: n for arm, n in chosen.items()}

    return replace(
        comparison,
        reference=names[comparison.reference],
        arms=tuple(
            replace(arm, arm=names[arm.arm], chosen=counts(arm.chosen)) for arm in comparison.arms
        ),
        contrasts=tuple(
            replace(contrast, arm_a=names[contrast.arm_a], arm_b=names[contrast.arm_b])
            for contrast in comparison.contrasts
        ),
        selections=tuple(
            replace(each, arm=names[each.arm], chosen=counts(each.chosen))
            for each in comparison.selections
        ),
        subgroups=tuple(replace(each, arm=names[each.arm]) for each in comparison.subgroups),
    )


def _with_training(name: str, arm: ArmSummary) -> str:
    """Add input size and epochs to a fine-tune's name, and whether it was still improving."""
    if arm.kind != "finetune" or arm.chosen:
        return name
    told = [text for key, text in describe([arm.training]).items() if key not in name]
    # of a single epoch nothing can tell whether it was better than one before
    if is_cut([arm.training]) and arm.training.epochs != 1:
        told.append("still improving")
    if not told:
        return name
    start, _, inner = name.rstrip(")").partition(" (") if name.endswith(")") else (name, "", "")
    return f"{start} ({', '.join([inner, *told] if inner else told)})"


def _name(arm: ArmSummary) -> str:
    if arm.chosen:
        return CHOSEN[arm.kind]
    source, plus, method = arm.arm.rpartition("+")
    if not plus:
        return arm.arm
    network = source.partition("@")[0].partition(".")[0]
    if arm.kind == "finetune":
        told = [] if arm.strategy in {"full", None} else [arm.strategy]
        told += [value.replace("=", " ") for value in method.split(",")[1:]]
        return f"fine-tuned {network}" + (f" ({', '.join(told)})" if told else "")
    return f"{_in_words(method, arm.head)} on {network}"


def _in_words(name: str, head: str | None) -> str:
    """Name a method by what the experiment calls it, with its head where that is another word."""
    if name in METHODS or head not in METHODS:
        return METHODS.get(name, name)
    return f"{METHODS[head]} ({name})"
