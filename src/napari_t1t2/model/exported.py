"""Generators in the formats of other programs: ONNX, bioimage.io, TorchScript; an ONNX file of ours read again."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from ..atomic import written_file
from ..config import Side, other
from ..errors import Refusal
from .about import About
from .card import card_of
from .cpu_layers import Double, Down, SliceNorm

OPSET = 17
HOME = "https://pypi.org/project/napari-t1t2/"
PLAIN = {Down: nn.Conv2d, Double: nn.ConvTranspose2d, SliceNorm: nn.InstanceNorm2d}  # the same, as others know it
TESTED = 64  # pixels, at least, of the sides of the image that a package is tested with


def plain(network: nn.Module) -> nn.Module:
    """A copy on the CPU that gives the same with PyTorch's own layers, whatever the size of its input."""
    made = deepcopy(network).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in made.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return cast("nn.Module", made)


def write_onnx(path: Path, about: About, network: nn.Module, side: Side) -> None:
    """The generator of one contrast as ONNX: (batch, channels, height, width) in [-1, 1] to (batch, 1, height, width).

    Batch and sizes are free, sizes as multiples of `ModelConfig.multiple`. What the model says of itself lies in the
    metadata of the file. Raises `Refusal` where onnx is missing.
    """
    onnx = _needed("onnx")
    x = torch.zeros(2, 2 if about.config.depth else 1, TESTED * 2, TESTED * 2)
    with written_file(path) as partial:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the exporter is the old one, which needs no further package
            torch.onnx.export(
                plain(network),
                (x,),
                str(partial),
                input_names=["source"],
                output_names=["synthetic"],
                dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("source", "synthetic")},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = onnx.load(str(partial))
        onnx.helper.set_model_props(graph, about.to_header() | {"makes": side})
        graph.doc_string = f"Makes synthetic {about.config.label(side)} MRI slices. Not for diagnosis."
        onnx.save(graph, str(partial))


class OnnxGenerator(nn.Module):
    """A generator of an ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        options = _needed("onnxruntime").SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = _needed("onnxruntime").InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.device_of = nn.Parameter(torch.zeros(()), requires_grad=False)  # translating asks where weights lie

    def forward(self, x: Tensor) -> Tensor:
        """As `UNetGenerator`."""
        (made,) = self.session.run(None, {"source": x.detach().cpu().numpy()})
        return torch.from_numpy(made)


def read_onnx(path: Path, content: bytes) -> tuple[About, dict[Side, nn.Module]]:
    """What `write_onnx` wrote: one direction of a model. Raises `Refusal` where another program wrote it."""
    try:
        generator = OnnxGenerator(content)
    except Refusal:
        raise
    except Exception as error:  # onnxruntime has types of its own
        raise Refusal(f"{path} is no ONNX model, or is damaged.") from error
    said: dict[str, str] = generator.session.get_modelmeta().custom_metadata_map
    side = cast("Side", said.get("makes", ""))
    if side not in ("t1", "t2"):
        raise Refusal(f"{path} was not exported by napari-t1t2, so its intensities and resolution are not known.")
    return About.of_header(path, said), {side: generator.eval()}


def write_bioimageio(path: Path, about: About, network: nn.Module, side: Side) -> None:
    """A bioimage.io package (.zip) of one direction: its ONNX file, a test image with its result, its card.

    Written in the format's own words, model 0.5.4; `bioimageio.core.test_model` runs what it says.
    """
    card, config = card_of(about), about.config
    lateral = config.multiple * -(-TESTED // config.multiple)
    free = {"min": config.multiple, "step": config.multiple}
    image = np.random.default_rng(0).uniform(-1, 1, (1, 2 if config.depth else 1, lateral, lateral))
    image = image.astype(np.float32)
    with torch.inference_mode():
        made = plain(network)(torch.from_numpy(image)).numpy()

    def tensor(name: str, channels: list[str], sizes: dict[str, Any]) -> dict[str, Any]:
        space = [{"type": "space", "id": axis, "size": size} for axis, size in sizes.items()]
        axes = [{"type": "batch"}, {"type": "channel", "channel_names": channels}, *space]
        return {"id": name, "axes": axes, "test_tensor": {"source": f"{name}.npy"}, "data": {"type": "float32"}}

    described = {
        "type": "model",
        "format_version": "0.5.4",
        "name": f"Synthetic {config.label(side)} MRI from {config.label(other(side))}",
        "description": f"{card.summary()}. Slices in and out from -1 to 1; not for diagnosis.",
        "authors": [{"name": "the napari-t1t2 developers"}],
        "cite": [{"text": card.citation or "napari-t1t2", "url": HOME}],
        "license": "BSD-3-Clause",
        "documentation": "README.md",
        "tags": ["mri", "image-translation", "unet"],
        "inputs": [tensor("source", ["image", "depth"][: image.shape[1]], {"y": free, "x": free})],
        "outputs": [
            tensor("synthetic", ["image"], {axis: {"tensor_id": "source", "axis_id": axis} for axis in "yx"}),
        ],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": OPSET}},
    }
    with written_file(path) as partial, ZipFile(partial, "w") as package:
        weights = partial.with_suffix(".onnx")
        try:
            write_onnx(weights, about, network, side)
            package.write(weights, "weights.onnx")
        finally:
            weights.unlink(missing_ok=True)
        for name, array in (("source.npy", image), ("synthetic.npy", made)):
            np.save(held := BytesIO(), array)
            package.writestr(name, held.getvalue())
        package.writestr("README.md", card.markdown(about.path.name))
        package.writestr("rdf.yaml", json.dumps(described, indent=1))  # JSON is YAML


def write_torchscript(path: Path, about: About, network: nn.Module, side: Side) -> None:
    """The generator of one contrast as TorchScript, with the metadata that MONAI's `load_net_with_metadata` reads.

    Input and output are those of `write_onnx`.
    """
    card, config = card_of(about), about.config
    channels = 2 if config.depth else 1

    def image(kind: str, seen: int) -> dict[str, Any]:
        shape = [f"{config.multiple}*n"] * 2
        return {"type": "image", "format": kind, "num_channels": seen, "spatial_shape": shape, "value_range": [-1, 1]}

    described = {
        "version": card.version,
        "task": f"Synthetic {config.label(side)} MRI from {config.label(other(side))}",
        "description": f"{card.summary()}. Not for diagnosis.",
        "network_data_format": {
            "inputs": {"image": image("magnitude", channels)},
            "outputs": {"pred": image("magnitude", 1)},
        },
        "napari_t1t2": about.to_header() | {"makes": side},
    }
    x = torch.zeros(2, channels, TESTED * 2, TESTED * 2)
    with written_file(path) as partial, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the layers check shapes in Python
        traced = torch.jit.trace(plain(network), (x,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(partial), _extra_files={"metadata.json": json.dumps(described).encode()})


def _needed(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise Refusal(f'This needs {name}: install it with pip install "napari-t1t2[export]".') from error
