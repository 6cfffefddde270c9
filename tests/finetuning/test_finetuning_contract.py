"""Every strategy: exactly what should change changes, parameters and buffers, bit by bit."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from featurebench.finetuning import FORMS, Recipe
from featurebench.finetuning.checkpoint import Checkpoints
from featurebench.finetuning.fabric import make_fabric
from featurebench.finetuning.feed import Feed, ignore
from featurebench.finetuning.learner import FoldLearner
from featurebench.finetuning.training import Lesson, Seeds
from featurebench.results import Cost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVERYTHING = ".*"
# What changes, as names written down from the architectures, not as the code finds them.
CASES = [
    ("test_resnet", "head", r"fc\."),
    ("test_resnet", "last:1", r"(layer4|fc)\."),
    ("test_resnet", "last:2", r"(layer3|layer4|fc)\."),
    ("test_resnet", "from:layer2", r"(layer2|layer3|layer4|fc)\."),
    ("test_resnet", "gradual", r"(layer3|layer4|fc)\."),
    ("test_resnet", "full", EVERYTHING),
    ("test_resnet", "scratch", EVERYTHING),
    ("test_resnet", "lp-ft", EVERYTHING),
    ("test_vit", "head", r"head\."),
    ("test_vit", "last:1", r"(blocks\.5|norm|fc_norm|head)\."),
    ("test_vit", "from:blocks.4", r"(blocks\.4|blocks\.5|norm|fc_norm|head)\."),
    ("test_vit", "gradual", r"(blocks\.4|blocks\.5|norm|fc_norm|head)\."),
    ("test_vit", "lora", r"blocks\..*(attn\.(qkv|proj)|mlp\.fc[12])\.weight|head\."),
    ("test_vit", "full", EVERYTHING),
    ("test_vit", "scratch", EVERYTHING),
    ("test_vit", "lp-ft", EVERYTHING),
]
LABELS = np.arange(24) % 2


class _Pixels:
    """Two dozen tiles of noise, brighter in class 1."""

    rng = np.random.default_rng(0)
    tiles = (rng.integers(0, 180, (24, 3, 32, 32)) + 60 * LABELS[:, None, None, None]).astype("u1")

    def batches(self, batches: Sequence[npt.NDArray[np.intp]]) -> Iterator[torch.Tensor]:
        for rows in batches:
            yield torch.from_numpy(self.tiles[rows])


def learner_of(**settings: Any) -> FoldLearner:
    recipe = Recipe(**{"weights": "random", "image_size": 32, "batch_size": 8, **settings})
    feed = Feed(_Pixels(), [0.5] * 3, [0.25] * 3, torch.device("cpu"), recipe.batch_size)
    return FoldLearner(
        recipe=recipe,
        feed=feed,
        labels=LABELS,
        groups=np.arange(24) // 2,
        classes=("a", "b"),
        seed=0,
        base_dir=None,
        progress=ignore,
        fold_dir=None,
        key="",
    )


def digests(network: torch.nn.Module) -> dict[str, str]:
    return {
        name: hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()
        for name, value in network.state_dict().items()
    }


def test_every_strategy_has_a_case() -> None:
    assert {strategy.partition(":")[0] for _, strategy, _ in CASES} == {
        form.partition(":")[0] for form in FORMS
    }


@pytest.mark.parametrize(("model", "strategy", "changing"), CASES)
@pytest.mark.parametrize("ema", [None, 0.5])
def test_what_changes(model: str, strategy: str, changing: str, ema: float | None) -> None:
    if strategy == "lora" and importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed")
    learner = learner_of(
        model=model, strategy=strategy, epochs=3, learning_rate=0.01, ema=ema, probe_C=1.0
    )
    seeds = Seeds.of_fold(0, 0, 0)
    before = learner.network(seeds)
    old = digests(before)
    lesson = Lesson(LABELS, 2, np.arange(24), np.arange(0))
    fabric = make_fabric(torch.device("cpu"), "float32")
    network, _ = learner.trained(lesson, seeds, fabric, Checkpoints(None, "", 0, Cost))
    new = digests(network)
    if strategy == "lora":
        assert {n for n in old if old[n] != new[n]} == {
            n for n in old if ".lora_" in n or re.match(r"head\.", n)
        }
        from featurebench.finetuning.adapters import merge_lora

        old, new = digests(merge_lora(before)), digests(merge_lora(network))
    names = {name for name, _ in network.named_parameters()}
    expected = {name for name in old if re.match(changing, name)}
    assert {name for name in names if old[name] != new[name]} == expected & names
    buffers = set(old) - names
    assert {name for name in buffers if old[name] != new[name]} == expected & buffers
    assert (model == "test_resnet") == bool(buffers)
