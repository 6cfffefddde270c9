"""One pass over the tiles for many embeddings: what is read, what is run, what comes out where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.backbones import HANDCRAFTED
from featurebench.errors import ExtractionError
from featurebench.extraction.reading import Feed
from featurebench.store import EmbeddingSpec
from featurebench.tiles import needs_square, parse_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from featurebench.backbones import Backbone
    from featurebench.backbones.protocols import Frozen
    from featurebench.backbones.taps import Tap


@dataclass(frozen=True)
class Target:
    """An embedding that a pass makes: its backbone and the recipe under which it is stored."""

    backbone: Backbone
    spec: EmbeddingSpec


@dataclass(frozen=True)
class Forward:
    """One run of a network: on which feed, turned how, for which targets."""

    frozen: Frozen
    feed: Feed
    symmetry: int
    targets: tuple[Target, ...]

    @property
    def taps(self) -> list[Tap]:
        """Where the targets' features leave the network."""
        return [target.backbone.tap for target in self.targets]


def make_targets(backbones: Iterable[Backbone]) -> list[Target]:
    """Give each backbone its spec; one that is asked for twice is made once."""
    specs = {EmbeddingSpec(**backbone.recipe): backbone for backbone in backbones}
    return [Target(backbone, spec) for spec, backbone in specs.items()]


def plan_forwards(targets: Sequence[Target]) -> list[Forward]:
    """Share what can be shared: one feed per input, one forward pass per network and view.

    Networks that want the same pixels (size, interpolation, crop) share a feed whatever their
    normalisation; the symmetries of a view are applied to the pixels on the device; layers of
    one network come out of one run.

    Raises
    ------
    ExtractionError
        If a view turns an input that is not square.
    """
    grouped: dict[tuple[int, Feed, int], list[Target]] = {}
    for target in targets:
        feed, symmetry = _input_of(target)
        grouped.setdefault((id(target.backbone.frozen), feed, symmetry), []).append(target)
    return [
        Forward(together[0].backbone.frozen, feed, symmetry, tuple(together))
        for (_, feed, symmetry), together in grouped.items()
    ]


def feeds_of(forwards: Iterable[Forward]) -> tuple[Feed, ...]:
    """List the inputs that readers have to make, each once."""
    return tuple(dict.fromkeys(forward.feed for forward in forwards))


def _input_of(target: Target) -> tuple[Feed, int]:
    backbone, view = target.backbone, parse_view(target.backbone.view)
    if backbone.model == HANDCRAFTED:
        return Feed(backbone.prepare, view), 0
    height, width = backbone.prepare.shape[:2]
    if needs_square(view) and height != width:
        raise ExtractionError(
            f"view {view.name!r} turns the input of {backbone.model}, which is {height} x {width} "
            "pixels; give a square input_size, or views 2"
        )
    return Feed(backbone.prepare, view.tile_view), view.symmetry
