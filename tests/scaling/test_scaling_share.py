"""Shares: every block in exactly one, written as a job array writes them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurebench.errors import ConfigError
from featurebench.scaling import Share, parse_share


@given(count=st.integers(1, 40), block=st.integers(0, 10_000))
def test_a_block_is_in_exactly_one_share(count: int, block: int) -> None:
    assert sum(Share(index, count).takes(block) for index in range(count)) == 1


def test_shares_differ_by_one_block_at_most() -> None:
    sizes = [sum(map(Share(index, 8).takes, range(101))) for index in range(8)]
    assert sum(sizes) == 101
    assert max(sizes) - min(sizes) == 1


@given(count=st.integers(1, 500), data=st.data())
def test_text_is_read_back(count: int, data: st.DataObject) -> None:
    share = Share(data.draw(st.integers(0, count - 1)), count)
    assert parse_share(str(share)) == share


def test_the_number_counts_from_one() -> None:
    assert parse_share("1/8") == Share(index=0, count=8)
    assert parse_share(" 8 / 8\n") == Share(index=7, count=8)


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "1/0"])
def test_a_number_outside_says_how_to_submit_the_array(text: str) -> None:
    with pytest.raises(ConfigError, match="SLURM_ARRAY_TASK_ID starts at 1") as error:
        parse_share(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_array_to_submit_has_the_count_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"1/8 to 8/8.*--array=1-8,"):
        parse_share("0/8")


@pytest.mark.parametrize("text", ["", "3", "3/", "/8", "3/8/9", "-1/8", "a/b", "1.5/2", "३/८"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="number/count"):
        parse_share(text)


@pytest.mark.parametrize(("index", "count"), [(-1, 8), (8, 8), (0, 0)])
def test_a_share_that_does_not_exist_cannot_be_made(index: int, count: int) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Share(index, count)


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = (
        "import sys, featurebench.scaling as s; print(sorted(m for m in sys.modules "
        "if m.startswith(('featurebench.scaling.', 'distributed', 'dask')))); print(dir(s))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, names = shown.stdout.splitlines()
    assert loaded == "[]"
    assert "deal" in names


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import featurebench.scaling

    with pytest.raises(AttributeError, match="no attribute 'scatter'"):
        _ = featurebench.scaling.scatter
