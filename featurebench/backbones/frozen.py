"""FrozenNetwork: one network on one device, run in one precision by one engine, never changed."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import torch

from featurebench.backbones.network import state_sha256
from featurebench.backbones.preprocessing import normalise
from featurebench.backbones.taps import Tap, TappedNetwork
from featurebench.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
ENGINES = ("eager", "compile", "openvino")


class FrozenNetwork:
    """A frozen network; the embeddings that come out of it share it.

    How far its features are from eager float32, measured with pretrained weights on a processor:
    ``openvino`` within 1e-5 of the largest feature; ``bfloat16``, which keeps 8 significant bits,
    at a cosine above 0.999 for half of 136 real H&E tiles and above 0.98 for the worst
    (EfficientNet-Lite0), 0.997 and 0.988 with MobileNetV2.

    Parameters
    ----------
    network
        A timm network without classes; goes to evaluation mode and to `device`.
    preprocessing
        Its ``mean`` and ``std`` are applied to pixels on the device.
    device
        Such as ``cpu`` or ``cuda:1``.
    precision
        ``float32``; ``bfloat16`` or ``float16`` (GPU only) by autocast.
    engine
        ``eager``, ``compile`` (torch.compile) or ``openvino`` (processors; needs its package).

    Raises
    ------
    WeightsError
        If device, precision and engine do not go together or are not there.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        preprocessing: Mapping[str, Any],
        *,
        device: str = "cpu",
        precision: str = "float32",
        engine: str = "eager",
    ) -> None:
        check_execution(device, precision, engine)
        frozen = network.eval().requires_grad_(requires_grad=False)
        # Convolutions run about 1.5 times faster so, on processors as on GPUs.
        self.network = frozen.to(device).to(memory_format=torch.channels_last)
        self.device = device
        self.precision = precision
        self.engine = engine
        self._mean, self._std = preprocessing["mean"], preprocessing["std"]
        self._tapped: dict[tuple[Tap, ...], TappedNetwork] = {}
        self._runners: dict[tuple[Tap, ...], Any] = {}
        self.loaded_sha256 = self.state_sha256()

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        """Embed prepared pixels at several taps in one forward pass.

        Parameters
        ----------
        pixels
            Uint8, shape (n, height, width, 3), on any device.
        taps
            From `resolve_tap`.

        Returns
        -------
        list of torch.Tensor
            Float32 on the network's device, shape (n, dim), one per tap.

        Raises
        ------
        WeightsError
            If a tap gives no features, or the engine cannot take this network.
        """
        return self._forward(self._runner(tuple(taps)), pixels)

    def probe(self, pixels: torch.Tensor, tap: Tap) -> torch.Tensor:
        """Embed as `run` does, but without the engine, which may take a minute to start."""
        return self._forward(self._tap((tap,)), pixels)[0]

    def state_sha256(self) -> str:
        """Hash of the network's parameters and buffers, as they are now."""
        return state_sha256(self.network)

    def _forward(self, runner: Any, pixels: torch.Tensor) -> list[torch.Tensor]:  # noqa: ANN401
        with torch.inference_mode(), _exact(), self._autocast():
            placed = pixels.to(self.device, non_blocking=True)
            images = normalise(placed, self._mean, self._std)
            return [features.float() for features in runner(images)]

    def _runner(self, taps: tuple[Tap, ...]) -> Any:  # noqa: ANN401
        if taps not in self._runners:
            self._runners[taps] = _MAKE[self.engine](self._tap(taps), self.precision)
        return self._runners[taps]

    def _tap(self, taps: tuple[Tap, ...]) -> TappedNetwork:
        if taps not in self._tapped:
            self._tapped[taps] = TappedNetwork(self.network, taps).eval()
        return self._tapped[taps]

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        if self.precision == "float32" or self.engine == "openvino":
            yield
            return
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=PRECISIONS[self.precision]):
            yield


def check_execution(device: str, precision: str, engine: str) -> None:
    """Make sure that a network can run so, before anything is loaded for it.

    Raises
    ------
    WeightsError
        If device, precision and engine do not go together or are not there.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WeightsError(
            f"device {device!r} cannot be used here ({type(error).__name__}); use 'cpu'"
        ) from error
    if precision not in PRECISIONS:
        raise WeightsError(
            f"precision {precision!r} is not known; give one of {', '.join(PRECISIONS)}"
        )
    if engine not in ENGINES:
        raise WeightsError(f"engine {engine!r} is not known; give one of {', '.join(ENGINES)}")
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and precision == "float16":
        raise WeightsError("precision 'float16' needs a GPU; give 'bfloat16' or 'float32'")
    if engine == "openvino":
        _check_openvino(on_cpu=on_cpu)


def _make_eager(tapped: TappedNetwork, _precision: str) -> Any:  # noqa: ANN401
    return tapped


class _Compiled:
    """`torch.compile` with batches padded to one size, since each size is compiled anew."""

    def __init__(self, tapped: TappedNetwork, _precision: str) -> None:
        self._compiled = torch.compile(tapped, dynamic=False)
        self._n = 0

    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        n = len(images)
        size = max(self._n, n)
        # where this size does not fit into memory, the next, smaller one is not padded to it
        self._n = 0
        padded = torch.nn.functional.pad(images, (0, 0) * 3 + (0, size - n))
        padded = padded.contiguous(memory_format=torch.channels_last)
        outputs = [features[:n] for features in self._compiled(padded)]
        self._n = size
        return outputs


class _OpenVino:
    """The network converted by OpenVINO, which brings its own kernels for processors."""

    def __init__(self, tapped: TappedNetwork, precision: str) -> None:
        self._tapped, self._precision = tapped, precision
        self._model: Any = None

    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        if self._model is None:
            self._model = self._convert(images)
        outputs = self._model(images.contiguous().numpy())
        return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]

    def _convert(self, images: torch.Tensor) -> Any:  # noqa: ANN401
        import openvino
        from openvino.frontend import GeneralFailure, OpConversionFailure

        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._precision == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            return openvino.Core().compile_model(self._trace(images), "CPU", hints)
        except (RuntimeError, GeneralFailure, OpConversionFailure) as error:
            reason = str(error).strip().partition("\n")[0][:160]
            raise WeightsError(
                f"engine 'openvino' cannot take this network: {reason}; give engine 'eager'"
            ) from error

    def _trace(self, images: torch.Tensor) -> Any:  # noqa: ANN401
        import openvino

        shape = openvino.PartialShape([-1, *images.shape[1:]])
        with warnings.catch_warnings():
            # OpenVINO traces with an interface that torch calls deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return openvino.convert_model(
                self._tapped, example_input=images.contiguous(), input=[shape]
            )


_MAKE: dict[str, Any] = {"eager": _make_eager, "compile": _Compiled, "openvino": _OpenVino}


def _exact() -> contextlib.AbstractContextManager[None]:
    """On a GPU: no TF32, which is not float32, and the same algorithms in every run."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def _check_openvino(*, on_cpu: bool) -> None:
    from importlib.util import find_spec

    if not on_cpu:
        raise WeightsError("engine 'openvino' runs on processors; give device 'cpu'")
    if find_spec("openvino") is None:
        raise WeightsError(
            "engine 'openvino' is not installed; run: pip install 'featurebench[openvino]'"
        )
