"""What simulated studies are drawn from: cohorts of textbooks, and cohorts as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Group = Literal["patient_id", "site"]


@dataclass(frozen=True)
class Scenario:
    """What a study is drawn from.

    Parameters
    ----------
    name, told
        Short name, and what it stands for.
    classes
        Patients of each class or, where patients are ``mixed``, the relative number of tiles.
    n_patients
        Patients, where they are mixed.
    n_tiles
        Tiles of each patient; None for log-normal numbers from 1 to 200 with a median of 17.
    mixed
        Whether a patient has tiles of several classes; else one label for all.
    shift
        Distance between the classes in the features that tell them, for each encoder.
    training_noise
        Spread of what each training adds to the weights, relative to their size, for each arm.
    patient_correlation
        Of a patient's effects on the two encoders.
    noise_df
        Degrees of freedom of the tiles' noise; infinite for Gaussian noise.
    wrong
        Share of the patients whose labels are permuted: among them or, where they are mixed,
        within each.
    n_sites
        Sites with an effect of their own on every tile; 0 for none.
    group
        What folds keep together.
    holdout
        Whether there is one test set, half of the patients of each class, and no cross-validation.
    known
        Whether it is known which tiles are of one patient. Folds then keep nothing together.
    null
        Whether both arms are equally good on average.
    """

    name: str
    told: str
    classes: tuple[int, ...] = (30, 30)
    n_patients: int = 60
    n_tiles: int | None = 10
    mixed: bool = False
    shift: tuple[float, float] = (0.45, 0.45)
    training_noise: tuple[float, float] = (0.0, 0.0)
    patient_correlation: float = 0.5
    noise_df: float = np.inf
    wrong: float = 0.0
    n_sites: int = 0
    group: Group = "patient_id"
    holdout: bool = False
    known: bool = True
    null: bool = True

    @property
    def textbook(self) -> bool:
        """Whether patients have equally many tiles and no label is wrong."""
        return self.n_tiles is not None and not self.wrong


# Unequal patients, heavy-tailed noise and wrong labels.
_UNEVEN = Scenario(
    "", "", n_tiles=None, patient_correlation=0.7, noise_df=4.0, wrong=0.1, shift=(0.9, 0.9)
)
_RARE, _MIXED = (5, 11, 44), (1, 5, 20)

TEXTBOOK = (
    Scenario("N1", "60 patients, both classes in each", classes=(1, 1), mixed=True),
    Scenario("N2", "60 patients, one label each"),
    Scenario("N3", "24 patients, one label each", classes=(12, 12)),
    Scenario("N4", "200 patients, one label each", classes=(100, 100), n_tiles=20),
    Scenario("N5", "as N2, both trainings noisy", training_noise=(0.5, 0.5)),
    Scenario("N6", "400 patients of one tile", classes=(200, 200), n_tiles=1),
    Scenario(
        "N7",
        "as N2, only the fine-tune noisy, equal on average",
        shift=(0.45, 0.5),
        training_noise=(0.0, 0.5),
    ),
)
REAL = (
    replace(
        _UNEVEN,
        name="R20",
        told="20 patients, three classes mixed",
        classes=_MIXED,
        n_patients=20,
        mixed=True,
    ),
    replace(
        _UNEVEN, name="R60", told="60 patients, three classes mixed", classes=_MIXED, mixed=True
    ),
    replace(_UNEVEN, name="L60", told="60 patients, one label each, 5:11:44", classes=_RARE),
    replace(_UNEVEN, name="L30", told="30 patients, one label each, 5:8:17", classes=(5, 8, 17)),
    replace(_UNEVEN, name="B60", told="60 patients, two classes, 30:30", shift=(0.45, 0.45)),
    replace(
        _UNEVEN,
        name="B20",
        told="20 patients, two classes, 10:10",
        classes=(10, 10),
        shift=(0.45, 0.45),
    ),
    replace(
        _UNEVEN,
        name="I60",
        told="60 patients of 17 tiles, 48:12",
        classes=(48, 12),
        n_tiles=17,
        shift=(0.45, 0.45),
    ),
    replace(
        _UNEVEN,
        name="H60",
        told="one test set of 5:11:44 patients",
        classes=(10, 22, 88),
        holdout=True,
    ),
    replace(
        _UNEVEN,
        name="H30",
        told="one test set of 2:5:23 patients",
        classes=(4, 10, 46),
        holdout=True,
    ),
    replace(
        _UNEVEN,
        name="HN60",
        told="one test set of 30:30 patients, both trainings noisy",
        classes=(60, 60),
        holdout=True,
        shift=(0.45, 0.45),
        training_noise=(0.5, 0.5),
    ),
    replace(
        _UNEVEN,
        name="S6",
        told="six sites, folds by site",
        n_sites=6,
        group="site",
        shift=(0.45, 0.45),
    ),
    replace(_UNEVEN, name="S6p", told="six sites, folds by patient", n_sites=6, shift=(0.45, 0.45)),
    replace(
        _UNEVEN, name="S3p", told="three sites, folds by patient", n_sites=3, shift=(0.45, 0.45)
    ),
    replace(_UNEVEN, name="U60", told="as B60, patients unknown", known=False, shift=(0.45, 0.45)),
)
POWER = (
    Scenario(
        "P1",
        "as N1, the fine-tune better",
        classes=(1, 1),
        mixed=True,
        shift=(0.45, 0.472),
        null=False,
    ),
    Scenario("P2", "as N2, the fine-tune better", shift=(0.45, 0.55), null=False),
    Scenario(
        "P4",
        "as N4, the fine-tune better",
        classes=(100, 100),
        n_tiles=20,
        shift=(0.45, 0.497),
        null=False,
    ),
    Scenario(
        "P7",
        "as N7, the fine-tune better",
        shift=(0.45, 0.588),
        training_noise=(0.0, 0.5),
        null=False,
    ),
    replace(
        _UNEVEN,
        name="PR20",
        told="as R20, the fine-tune better",
        classes=_MIXED,
        n_patients=20,
        mixed=True,
        shift=(0.9, 1.35),
        null=False,
    ),
    replace(
        _UNEVEN,
        name="PR60",
        told="as R60, the fine-tune better",
        classes=_MIXED,
        mixed=True,
        shift=(0.9, 1.2),
        null=False,
    ),
    replace(
        _UNEVEN,
        name="PL60",
        told="as L60, the fine-tune better",
        classes=_RARE,
        shift=(0.9, 1.3),
        null=False,
    ),
    replace(
        _UNEVEN, name="PB60", told="as B60, the fine-tune better", shift=(0.45, 0.6), null=False
    ),
    replace(
        _UNEVEN,
        name="PI60",
        told="as I60, the fine-tune better",
        classes=(48, 12),
        n_tiles=17,
        shift=(0.45, 0.6),
        null=False,
    ),
    replace(
        _UNEVEN,
        name="PS6",
        told="as S6, the fine-tune better",
        n_sites=6,
        group="site",
        shift=(0.45, 0.8),
        null=False,
    ),
)
SCENARIOS = (*TEXTBOOK, *REAL, *POWER)
