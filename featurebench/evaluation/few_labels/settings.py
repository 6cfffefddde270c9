"""FewLabels: which smaller training sets are drawn, and how many of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("patients", "tiles", "shots", "patient_shots")
"""What is counted; the place of a kind is part of the seed of its draws."""


@dataclass(frozen=True)
class FewLabels:
    """Sizes of the training sets, and draws of each size.

    Parameters
    ----------
    patients
        Numbers of patients, with all their tiles; at least one patient of every class.
    tiles
        Numbers of tiles, in the proportions of the classes but at least one of each.
    shots
        Numbers of tiles of every class.
    patient_shots
        The same, each tile of another patient as far as there are patients of the class.
    draws
        Training sets drawn per fold and size. The smaller ones of a draw lie in the larger ones.
    inner
        Inner folds wished for, where a head chooses something.
    seed
        Of the draws and of the inner folds.

    Raises
    ------
    ConfigError
        If no size is given, or a number cannot be used.

    Examples
    --------
    >>> FewLabels(patients=[16, 4, 8]).patients
    (4, 8, 16)
    """

    patients: Sequence[int] = ()
    tiles: Sequence[int] = ()
    shots: Sequence[int] = ()
    patient_shots: Sequence[int] = ()
    draws: int = 5
    inner: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in KINDS:
            sizes = getattr(self, kind)
            for size in sizes:
                _check(kind, size, least=1)
            object.__setattr__(self, kind, tuple(sorted({int(size) for size in sizes})))
        for name, least in (("draws", 1), ("inner", 2), ("seed", 0)):
            _check(name, getattr(self, name), least=least)
        if not any(self.sizes.values()):
            raise ConfigError(f"few labels: give sizes of at least one of {', '.join(KINDS)}")

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Sizes of each kind, ascending."""
        return {kind: tuple(getattr(self, kind)) for kind in KINDS}

    @property
    def by_patient(self) -> bool:
        """Whether some kind needs to know the patient of every tile."""
        return bool(self.patients or self.patient_shots)

    def as_json(self) -> dict[str, Any]:
        """Give all settings, JSON-ready."""
        return {k: list(v) if k in KINDS else v for k, v in asdict(self).items()}


def _check(name: str, value: object, *, least: int) -> None:
    is_whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_whole or int(value) < least:  # type: ignore[call-overload]
        raise ConfigError(f"few labels: {name} {value!r}: use whole numbers from {least}")
