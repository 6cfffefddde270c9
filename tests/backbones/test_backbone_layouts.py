"""torchvision's own checkpoints load into timm's networks and give torchvision's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torchvision.models

from featurebench.backbones.layouts import load_in_order
from featurebench.backbones.names import find_architecture
from featurebench.backbones.network import load_network
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = [
    ("resnet18", "resnet18", 64),
    ("mobilenet_v2", "mobilenetv2_100", 64),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("mnasnet1_0", "mnasnet_100", 64),
    ("densenet121", "densenet121", 64),
    pytest.param("inception_v3", "inception_v3", 299, marks=pytest.mark.slow),
    pytest.param("vgg11", "vgg11", 224, marks=pytest.mark.slow),
    pytest.param("vgg16_bn", "vgg16_bn", 224, marks=pytest.mark.slow),
]


def torchvision_network(name: str) -> torch.nn.Module:
    """A network in which every tensor, running statistics included, has a value of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        options = {"init_weights": True} if name == "inception_v3" else {}
        network: torch.nn.Module = torchvision.models.get_model(name, weights=None, **options)
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(0.01 * torch.rand_like(tensor))
    return network.eval()


@pytest.mark.parametrize(("theirs", "ours", "size"), PAIRS)
def test_torchvision_checkpoints_give_torchvision_outputs(
    tmp_path: Path, theirs: str, ours: str, size: int
) -> None:
    reference = torchvision_network(theirs)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    network = load_network(
        find_architecture(ours),
        weights="weights.pth",
        input_size=[3, size, size],
        base_dir=tmp_path,
    ).eval()
    batch = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = reference(batch), network(batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_timms_layout_passes_a_converter_untouched(tmp_path: Path) -> None:
    network = load_network(
        find_architecture("densenet121"), weights="random", input_size=[3, 224, 224], seed=5
    )
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    again = load_network(
        find_architecture("densenet121"),
        weights="weights.pth",
        input_size=[3, 224, 224],
        base_dir=tmp_path,
    )
    own = again.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())


def test_a_layout_that_timm_cannot_convert_is_refused(tmp_path: Path) -> None:
    torch.save({"classifier.0.weight": torch.ones(5)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="timm cannot convert its tensors to 'vgg11'"):
        load_network(
            find_architecture("vgg11"),
            weights="weights.pth",
            input_size=[3, 224, 224],
            base_dir=tmp_path,
        )


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision_network("mobilenet_v3_small").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"missing \(conv_stem.weight, .*left over \(features"):
        load_network(
            find_architecture("mobilenetv2_100"),
            weights="weights.pth",
            input_size=[3, 224, 224],
            base_dir=tmp_path,
        )


def test_order_alone_is_not_enough() -> None:
    """Neither a shape nor the last part of a name may differ."""
    network = torch.nn.Linear(2, 3)
    load_in_order(network, {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}, "file")
    assert torch.equal(network.weight, torch.ones(3, 2))
    for state in (
        {"a.weight": torch.ones(3, 2)},
        {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(3)},
        {"a.weight": torch.ones(3, 2), "a.running_mean": torch.zeros(3)},
    ):
        with pytest.raises(WeightsError, match="file: its tensors are not those of this network"):
            load_in_order(network, state, "file")
