"""What computes a network: PyTorch as it is, PyTorch's compiler, or OpenVINO. All give one function from tiles to
logits."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.engine import device as devices
from medseg.engine.forward import Forward, channels_last, once
from medseg.engine.networks import answers
from medseg.optional import need
from medseg.plan import Plan
from medseg.refusal import Refusal


def build(name: str, network: nn.Module, plan: Plan, *, precision: str, device: torch.device) -> Forward:
    """A single pass through a network in evaluation mode, which the caller gives away: its weights are laid out anew.

    What has to be compiled is compiled here, for one tile; each other number of tiles later on costs that time again.

    Args:
        name: eager, compile or openvino.
        precision: 32, bf16 or 16.

    Raises:
        Refusal: the back end is not installed, does not work on this device, or cannot compile this network.
    """
    devices.check_precision(device, precision, where="precision")
    devices.tune_kernels(device)
    run = MAKERS[name](channels_last(network), precision, device)
    if name != "eager":
        run(torch.zeros(1, *seen(plan)))
    return run


def seen(plan: Plan) -> tuple[int, int, int, int]:
    """What a network sees of a tile, (C, i, j, k)."""
    return plan.in_channels, plan.patch[0], plan.patch[1], plan.patch[2] + 2 * plan.context


def version(name: str) -> str:
    """Of the package behind a back end; empty where it is not installed."""
    try:
        return metadata.version({"openvino": "openvino"}.get(name, "torch"))
    except metadata.PackageNotFoundError:
        return ""


def user_cache() -> Path:
    """Folder of what can be made again, one for each user: MEDSEG_CACHE, or where the system has such things."""
    if given := os.environ.get("MEDSEG_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        above = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        above = Path.home() / "Library" / "Caches"
    else:
        above = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return above / "medseg"


def _eager(network: nn.Module, precision: str, device: torch.device) -> Forward:
    return once(network, precision=precision, device=device)


def _compiled(network: nn.Module, precision: str, device: torch.device) -> Forward:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache() / "inductor"))
    from torch._dynamo.exc import TorchDynamoException

    if device.type == "cuda":
        from medseg.engine.innermost import by_operator

        network = by_operator(network)
    run = once(torch.compile(_First(network), dynamic=False), precision=precision, device=device, compiled=True)

    def refusing(tiles: Tensor) -> Tensor:
        try:
            return run(tiles)
        except TorchDynamoException as error:
            raise _cannot(
                "compile", error, "a C++ compiler (for a GPU, Triton), and a network that it takes"
            ) from error

    return refusing


def _openvino(network: nn.Module, precision: str, device: torch.device) -> Forward:
    """Without `openvino.convert_model`, which reports each use to its makers; the same parts are called one by one."""
    if device.type != "cpu":
        raise Refusal(
            "backend",
            found=f"openvino on {device.type}",
            needed="a CPU, for which medseg has it",
            remedy="set backend=eager or backend=compile, or predict with --device cpu",
        )
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so Python says that there is none
    package = need("openvino", extra="openvino", purpose="compute a network with it")
    settings = {
        "INFERENCE_PRECISION_HINT": {"32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    made: dict[tuple[int, ...], Callable[..., Any]] = {}

    def run(tiles: Tensor) -> Tensor:
        shape = tuple(tiles.shape)
        if shape not in made:
            converted = _converted(network, tiles)
            made[shape] = _core(package).compile_model(converted, "CPU", settings).create_infer_request().infer
        return torch.from_numpy(made[shape]([tiles.contiguous().numpy()])[0])

    return run


@cache
def _core(package: Any) -> Any:
    """OpenVINO's core, one for the process and never given back. It lends the thread that compiles a stack for signals,
    and takes that away when it goes, from whatever thread that happens in: the next signal then ends the process."""
    return package.Core()


def _converted(network: nn.Module, tiles: Tensor) -> Any:
    """The network as OpenVINO's model for tiles of this shape."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes become constants, as they should
            warnings.simplefilter("ignore", DeprecationWarning)
            decoder = TorchScriptPythonDecoder(_First(network), example_input=tiles)
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))  # the decoder owns the weights: it must live until here
        model.reshape(list(tiles.shape))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # OpenVINO's own errors have no common class
        raise _cannot("openvino", error, "a network that it can convert") from error
    return model


class _First(nn.Module):
    """A network reduced to the answer that counts, with its channels outermost, as it will be read."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, tiles: Tensor) -> Tensor:
        return answers(self.network(tiles))[0].contiguous()


def _cannot(name: str, error: Exception, needed: str) -> Refusal:
    words = " ".join(str(error).split())[:300].rstrip(".")
    return Refusal(f"backend {name}", found=words, needed=needed, remedy="set backend=eager")


MAKERS: dict[str, Callable[[nn.Module, str, torch.device], Forward]] = {
    "eager": _eager,
    "compile": _compiled,
    "openvino": _openvino,
}
"""Back ends by the names that `predict.backend` knows."""
