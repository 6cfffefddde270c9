"""A search tries what it may, keeps its budget and never looks at a held-out row."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import optuna
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GroupKFold, KFold

from featurebench.errors import ConfigError
from featurebench.heads.search import SearchedHead, SearchPlan, parse_space
from featurebench.heads.search.inner import InnerFolds
from featurebench.heads.search.study import Search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
Cv = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
METHODS = ["tpe", "random", "grid"]


class Log:
    """What the clones of one estimator did, in one place."""

    def __init__(self) -> None:
        self.fits: list[tuple[Any, npt.NDArray[np.int64]]] = []
        self.pairs: list[tuple[set[int], set[int]]] = []
        self.inner: list[list[tuple[set[int], set[int]]]] = []

    def __deepcopy__(self, memo: object) -> Log:
        return self


class Witness(ClassifierMixin, BaseEstimator):
    """Predicts the true class with probability ``skill``; column 0 is the row, column 1 the class.

    A negative skill cannot be fitted; ``"nan"`` predicts no number.
    """

    def __init__(self, skill: Any = 0.5, log: Log | None = None, wobble: float = 0.0) -> None:
        self.skill = skill
        self.log = log
        self.wobble = wobble

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Witness:
        if self.skill == "typo":
            raise ConfigError("rule 'bets' is unknown")
        if self.skill == "zero":
            raise ZeroDivisionError("by nought")
        if self.skill != "nan" and self.skill < 0:
            raise ValueError(f"skill {self.skill} is negative")
        self.classes_ = np.unique(y)
        self.rows_ = X[:, 0].astype(int)
        if self.log is not None:
            self.log.fits.append((self.skill, self.rows_))
        return self

    def predict_proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        n_classes = len(self.classes_)
        if self.skill == "nan":
            return np.full((len(X), n_classes), np.nan)
        if self.log is not None:
            self.log.pairs.append((set(self.rows_.tolist()), set(X[:, 0].astype(int).tolist())))
        skill = self.skill + self.wobble * np.sin(X[:, 0].sum())
        p = np.repeat((1 - skill) / (n_classes - 1), len(X) * n_classes).reshape(len(X), -1)
        p[np.arange(len(X)), np.searchsorted(self.classes_, X[:, 1].astype(int))] = skill
        return p


class WitnessWithInner(Witness):
    """Needs inner folds itself."""

    def __init__(
        self,
        skill: Any = 0.5,
        log: Log | None = None,
        cv: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] | None = None,
    ) -> None:
        super().__init__(skill, log)
        self.cv = cv

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Witness:
        super().fit(X, y)
        assert self.log is not None
        assert self.cv is not None
        rows = X[:, 0].astype(int)
        self.log.inner.append([(set(rows[a]), set(rows[b])) for a, b in self.cv])
        self.choices_ = {"n_inner": len(self.cv)}
        return self


@pytest.fixture
def told() -> Data:
    """24 rows that say their number and their class."""
    y = np.tile([0, 1], 12)
    return np.column_stack([np.arange(24), y]).astype(np.float32), y


@pytest.fixture
def thirds() -> Cv:
    return list(KFold(3).split(np.zeros(24)))


@pytest.mark.parametrize(("skill", "n_trials"), [(0.6, 5), (0.65, 6)])
def test_grid_tries_each_point_once(skill: float, n_trials: int, told: Data, thirds: Cv) -> None:
    log = Log()
    space = {"skill": [0.5, 0.6, 0.7, 0.8, 0.9]}
    head = SearchedHead(
        Witness(skill, log), space, method="grid", trials=None, pruning=False, cv=thirds
    ).fit(*told)
    tried = [each for each, rows in log.fits if len(rows) < 24]
    assert sorted(tried) == sorted(3 * list({*space["skill"], skill}))
    assert tried[:3] == [skill] * 3
    assert head.choices_["trials"] == n_trials
    assert head.choices_["params"] == {"skill": 0.9}


def test_a_grid_that_the_budget_cuts_says_so(told: Data, thirds: Cv) -> None:
    space = {"skill": [0.5, 0.6, 0.7, 0.8, 0.9]}
    head = SearchedHead(Witness(0.6), space, method="grid", trials=3, cv=thirds).fit(*told)
    assert (head.choices_["trials"], head.choices_["untried"]) == (3, 2)


def test_a_grid_of_the_default_alone(told: Data, thirds: Cv) -> None:
    head = SearchedHead(Witness(0.6), {"skill": [0.6]}, method="grid", trials=None, cv=thirds)
    choices = head.fit(*told).choices_
    assert (choices["trials"], choices["params"]) == (1, {"skill": 0.6})


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_pruning_gives_up_the_hopeless(method: Any, told: Data, thirds: Cv) -> None:
    log = Log()
    space = {"skill": {"low": 0.05, "high": 0.95}}
    head = SearchedHead(Witness(0.5, log), space, method=method, trials=30, cv=thirds).fit(*told)
    choices = head.choices_
    assert choices["pruned"] > 0
    assert choices["trials"] == 30
    fitted_inside = len(log.fits) - 1
    assert fitted_inside == 3 * (30 - choices["pruned"]) + choices["pruned"]
    assert choices["params"]["skill"] == max(skill for skill, _ in log.fits)
    whole = clone(head).set_params(pruning=False).fit(*told)
    assert whole.choices_["pruned"] == 0


def test_a_trial_is_not_given_up_after_its_last_fold(told: Data) -> None:
    cv = list(KFold(2).split(told[0]))[:1]
    space = {"skill": {"low": 0.05, "high": 0.95}}
    choices = SearchedHead(Witness(), space, trials=20, cv=cv).fit(*told).choices_
    assert choices["pruned"] == 0


def test_validation_rows_never_reach_a_fit(told: Data, thirds: Cv) -> None:
    log = Log()
    space = {"skill": {"low": 0.5, "high": 0.9}}
    SearchedHead(Witness(0.5, log), space, trials=6, cv=thirds).fit(*told)
    expected = [(set(train.tolist()), set(held_out.tolist())) for train, held_out in thirds]
    assert log.pairs
    assert all(pair in expected for pair in log.pairs)
    np.testing.assert_array_equal(log.fits[-1][1], np.arange(24))


def test_inner_folds_of_a_trial_lie_in_its_training_rows(told: Data) -> None:
    log = Log()
    X, y = told
    patients = np.repeat(np.arange(8), 3)
    cv = list(GroupKFold(4).split(X, y, patients))
    head = SearchedHead(
        WitnessWithInner(0.5, log),
        {"skill": {"low": 0.5, "high": 0.9}},
        trials=4,
        pruning=False,
        cv=cv,
    ).fit(X, y)
    assert len(log.inner) == 4 * 4 + 1
    for (fit_on, judged), inner in zip(log.pairs, log.inner[:-1], strict=True):
        assert not fit_on & judged
        assert len(inner) == 3
        for train, watched in inner:
            assert train | watched == fit_on
            assert not {patients[i] for i in train} & {patients[i] for i in watched}
    assert log.inner[-1] == [(set(a.tolist()), set(b.tolist())) for a, b in cv]
    assert head.choices_["estimator"] == {"n_inner": 4}


def test_inner_folds_of_a_trial_have_rows_on_either_side(told: Data, thirds: Cv) -> None:
    X, y = told
    first, second, _ = thirds
    folds = InnerFolds.from_pairs(X, y, [first, first, second]).folds
    assert [len(fold.inner) for fold in folds] == [1, 1, 2]


def test_a_head_with_inner_folds_of_its_own_needs_two(told: Data, thirds: Cv) -> None:
    head = SearchedHead(WitnessWithInner(0.5, Log()), {"skill": [0.6]}, cv=thirds[:1])
    with pytest.raises(ConfigError, match="give two inner folds or more"):
        head.fit(*told)


@pytest.mark.parametrize("method", ["tpe", "random"])
@pytest.mark.parametrize("trials", [1, 7, 12])
def test_trials_are_kept_exactly(method: Any, trials: int, told: Data, thirds: Cv) -> None:
    log = Log()
    space = {"skill": {"low": 0.5, "high": 0.9}}
    head = SearchedHead(
        Witness(0.5, log), space, method=method, trials=trials, pruning=False, cv=thirds
    ).fit(*told)
    assert head.choices_["trials"] == trials
    assert len(log.fits) == 3 * trials + 1
    assert [skill for skill, _ in log.fits[:3]] == [0.5] * 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [{"trials": 50}, {"trials": None, "seconds": 3600.0}])
def test_a_space_without_another_point_ends_the_search(
    method: Any, budget: dict[str, Any], told: Data, thirds: Cv
) -> None:
    log = Log()
    space = {"skill": [0.6, 0.7, 0.8]}
    head = SearchedHead(
        Witness(0.6, log), space, method=method, pruning=False, cv=thirds, **budget
    ).fit(*told)
    assert head.choices_["trials"] == 3
    assert len(log.fits) == 3 * 3 + 1


class Clock:
    """Seconds that pass when a fold is fitted, ten at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def losses(self, params: dict[str, Any]) -> Iterator[float]:
        for _ in range(2):
            self.now += 10
            yield (params["x"] - 0.3) ** 2


@pytest.mark.parametrize(
    ("trials", "seconds", "n_trials"),
    [(None, 1.0, 1), (None, 20.0, 1), (None, 21.0, 2), (None, 75.0, 4), (3, 75.0, 3), (9, 75.0, 4)],
)
@pytest.mark.parametrize("default", [0.5, 7.0])
def test_seconds_end_a_search_after_a_trial(
    trials: int | None, seconds: float, n_trials: int, default: float
) -> None:
    clock = Clock()
    plan = SearchPlan(trials=trials, seconds=seconds, pruning=False)
    space = parse_space({"x": {"low": 0.0, "high": 1.0}})
    found = Search(clock.losses, 2, plan, clock).run({"x": default}, space)
    assert len(found.trials) == n_trials
    assert found.seconds == 20.0 * n_trials
    assert found.trials[0].params == {"x": default}


def test_another_seed_searches_elsewhere(told: Data, thirds: Cv) -> None:
    space = {"skill": {"low": 0.5, "high": 0.9}}
    one, other = (
        SearchedHead(Witness(), space, random_state=seed, cv=thirds).fit(*told).choices_["params"]
        for seed in (0, 1)
    )
    assert one != other


def test_clone_copies_parameters_and_nothing_fitted(told: Data, thirds: Cv) -> None:
    space = {"skill": [0.6, 0.7]}
    head = SearchedHead(Witness(), space, trials=2, cv=thirds).fit(*told)
    copied = clone(head)
    assert not hasattr(copied, "choices_")
    assert copied.space == space
    assert copied.estimator.skill == 0.5
    assert copied.get_params()["estimator__skill"] == 0.5
    assert head.estimator.skill == 0.5


def test_the_default_wins_where_the_space_is_bad(told: Data, thirds: Cv) -> None:
    space = {"skill": {"low": 0.1, "high": 0.4}}
    choices = SearchedHead(Witness(0.9), space, trials=15, cv=thirds).fit(*told).choices_
    assert choices["params"] == {"skill": 0.9}
    assert choices["inner_log_loss"] == choices["default_log_loss"] == pytest.approx(-np.log(0.9))
    assert choices["trials"] == 15


def test_one_standard_error_keeps_the_default(told: Data, thirds: Cv) -> None:
    space = {"skill": [0.70, 0.71]}
    head = SearchedHead(Witness(0.7, wobble=0.2), space, trials=8, pruning=False, cv=thirds)
    best = clone(head).fit(*told).choices_
    kept = clone(head).set_params(rule="one_se").fit(*told).choices_
    assert best["params"] == {"skill": 0.71}
    assert kept["params"] == {"skill": 0.70}
    assert kept["inner_log_loss"] == kept["default_log_loss"] > best["inner_log_loss"]
    far = clone(head).set_params(rule="one_se", estimator=Witness(0.2), space={"skill": [0.9]})
    assert far.fit(*told).choices_["params"] == {"skill": 0.9}


@pytest.mark.parametrize("bad", [-1.0, "zero", "nan"])
def test_a_configuration_that_fails_is_counted_and_passed_over(
    bad: Any, told: Data, thirds: Cv
) -> None:
    space = {"skill": [bad, 0.7]}
    choices = SearchedHead(Witness(bad), space, trials=12, cv=thirds).fit(*told).choices_
    assert choices["params"] == {"skill": 0.7}
    assert choices["failed"] > 0
    assert choices["default_log_loss"] is None


def test_the_last_error_is_raised_where_all_fail(told: Data, thirds: Cv) -> None:
    head = SearchedHead(Witness(-1.0), {"skill": [-2.0]}, method="grid", trials=None, cv=thirds)
    with pytest.raises(ValueError, match=r"skill -2\.0 is negative"):
        head.fit(*told)


def test_a_mistake_in_the_configuration_ends_the_search(told: Data, thirds: Cv) -> None:
    head = SearchedHead(Witness(), {"skill": ["typo", 0.7]}, method="grid", trials=None, cv=thirds)
    with pytest.raises(ConfigError, match="rule 'bets' is unknown"):
        head.fit(*told)


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.mark.parametrize("method", METHODS)
def test_optuna_is_quiet_and_left_as_it_was(method: Any, told: Data, thirds: Cv) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    said = Collector()
    logging.getLogger("optuna").addHandler(said)
    head = SearchedHead(Witness(), {"skill": [-1.0, 0.6, 0.7]}, method=method, cv=thirds)
    head.fit(*told)
    with pytest.raises(ConfigError):
        head.set_params(space={"skill": ["typo"]}).fit(*told)
    logging.getLogger("optuna").removeHandler(said)
    assert said.messages == []
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_optuna_is_told_what_became_of_each_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    studies: list[optuna.Study] = []
    create = optuna.create_study

    def keep(**given: Any) -> optuna.Study:
        studies.append(create(**given))
        return studies[-1]

    monkeypatch.setattr(optuna, "create_study", keep)

    def losses(params: dict[str, Any]) -> Iterator[float]:
        for i in range(3):
            if i == 1 and params["x"] < 6:
                raise ValueError(f"x is {params['x']}")
            yield float(params["x"])

    space = parse_space({"x": {"low": 1, "high": 30}})
    plan = SearchPlan(method="random", trials=24)
    found = Search(losses, 3, plan).run({"x": 12}, space)
    (study,) = studies
    # More suggestions in all were repeats than would end the search in a row.
    assert len(found.trials) == 24 < len(study.trials) - 20
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    became = {each.params["x"]: (each.state, each.losses) for each in found.trials}
    assert {state for state, _ in became.values()} == set(states.values())
    for told in study.trials:
        state, step_losses = became[told.params["x"]]
        assert states[told.state.name] == state
        assert list(told.intermediate_values) == list(range(len(step_losses)))


def test_rows_that_cannot_be_searched_on(told: Data, thirds: Cv) -> None:
    X, y = told
    head = SearchedHead(Witness(), {"skill": [0.6]}, cv=thirds)
    with pytest.raises(ValueError, match="give cv"):
        clone(head).set_params(cv=None).fit(X, y)
    with pytest.raises(ValueError, match="all 24 labels are 0: give two classes"):
        head.fit(X, 0 * y)
    with pytest.raises(ValueError, match="NaN"):
        head.fit(np.where(X == 3, np.nan, X), y)
    every = np.arange(24)
    with pytest.raises(ValueError, match="inner fold 1: 4 of its validation rows are training"):
        InnerFolds.from_pairs(X, y, [thirds[0], (every[:20], every[16:])])
    with pytest.raises(ValueError, match="inner fold 0 has no validation rows"):
        InnerFolds.from_pairs(X, y, [(every, every[:0])])
