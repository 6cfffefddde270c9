"""Recipe: its ranges, its preset, what fits only together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from featurebench.errors import ConfigError
from featurebench.finetuning import PRESETS, Recipe, with_preset


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs 0 cannot be used: it must be at least 1"),
        ("image_size", 0, "image_size 0"),
        ("batch_size", 1, "batch_size 1 cannot be used: it must be at least 2"),
        ("accumulate", 0, "accumulate 0"),
        ("learning_rate", 0.0, "learning_rate 0.0 cannot be used: it must be positive"),
        ("learning_rate", float("nan"), "learning_rate nan"),
        ("learning_rate", float("inf"), "learning_rate inf"),
        ("weight_decay", -1.0, "weight_decay -1.0"),
        ("optimizer", "adamv", "optimizer 'adamv' does not exist: did you mean 'adam"),
        ("momentum", 1.0, "momentum 1.0"),
        ("schedule", "linear", "schedule 'linear' does not exist: use cosine, step, plateau, con"),
        ("warmup_fraction", 1.0, "warmup_fraction 1.0 .* at least 0 and below 1"),
        ("decay_epochs", 0, "decay_epochs 0 cannot be used: it must be at least 1, or none"),
        ("decay_rate", 0.0, "decay_rate 0.0 .* above 0 and at most 1"),
        ("layer_decay", 1.1, "layer_decay 1.1 .* above 0 and at most 1, or none"),
        ("clip_norm", 0.0, "clip_norm 0.0 cannot be used: it must be positive, or none"),
        ("ema", 1.0, "ema 1.0"),
        ("label_smoothing", 1.0, "label_smoothing 1.0"),
        ("class_weight", "equal", "class_weight 'equal' .* 'balanced' or a positive weight"),
        ("class_weight", {"tumour": 0.0}, "class_weight {'tumour': 0.0}"),
        ("head", "deep", "head 'deep' does not exist: did you mean 'dense'"),
        ("hidden", 0, "hidden 0"),
        ("dropout", 1.0, "dropout 1.0"),
        ("drop_rate", -0.5, "drop_rate -0.5"),
        ("unfreeze_every", 0, "unfreeze_every 0"),
        ("rank", 0, "rank 0"),
        ("monitor", "acuracy", "monitor 'acuracy' does not exist: did you mean 'accuracy'?"),
        ("patience", 0, "patience 0"),
        ("validation_fraction", 0.95, "validation_fraction 0.95 .* at least 0 and below 0.9"),
        ("precision", "half", "precision 'half' does not exist"),
        ("color_jitter", -0.1, "color_jitter -0.1"),
        ("augmentation", {"zom": 0.1}, "augmentation: unknown key 'zom': did you mean 'zoom'?"),
        ("strategy", "half", "strategy 'half' does not exist"),
    ],
)
def test_recipe_refuses(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(model="resnet18", **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "plateau", "validation_fraction": 0}, "follows the validation tiles"),
        ({"strategy": "lp-ft", "head": "dense"}, "a probe starts only head 'linear'"),
    ],
)
def test_what_does_not_fit_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(model="resnet18", **settings)


def test_preset_fills_in_what_is_not_given() -> None:
    paper = Recipe.of({"model": "vgg16", "preset": "paper"})
    assert (paper.optimizer, paper.learning_rate, paper.batch_size) == ("adam", 1e-4, 32)
    assert (paper.epochs, paper.image_size, paper.head) == (50, 224, "dense")
    assert paper.dropout > 0
    # a key that repeats its default is given all the same
    default = Recipe(model="vgg16").learning_rate
    own = Recipe.of({"model": "vgg16", "preset": "paper", "learning_rate": default})
    assert own == dataclasses.replace(paper, learning_rate=default)
    assert with_preset({"model": "x"}) == {"model": "x"}
    assert set(PRESETS["paper"]) <= {each.name for each in dataclasses.fields(Recipe)}


def test_preset_and_keys_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="preset 'papers' does not exist: did you mean 'paper'"):
        Recipe.of({"model": "vgg16", "preset": "papers"})
    with pytest.raises(ConfigError, match="unknown key 'learning_rat': did you mean 'learning_ra"):
        Recipe.of({"model": "vgg16", "learning_rat": 1})


def test_waiting_before_a_decay_depends_on_the_schedule() -> None:
    assert Recipe("x", schedule="step", epochs=10).decay_after == 4
    assert Recipe("x", schedule="plateau", patience=5).decay_after == 2
    assert Recipe("x", schedule="plateau", patience=5, decay_epochs=7).decay_after == 7


def test_top_level_colour_jitter_is_that_of_the_augmentation_unless_that_has_one() -> None:
    assert Recipe("x", color_jitter=0.3).augmented.color_jitter == 0.3
    assert Recipe("x", augmentation={"color_jitter": 0.2}).augmented.color_jitter == 0.2
    assert Recipe("x").augmented.color_jitter == 0.1


def test_recipe_is_json_ready() -> None:
    recipe = Recipe("x", class_weight={"a": 2.0}, augmentation={"rotation": 15})
    assert Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_presets_are_read_without_torch() -> None:
    code = (
        "import sys; from featurebench.finetuning import with_preset; print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in found.stdout.split()
