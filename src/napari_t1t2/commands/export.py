"""The command export: one direction of a model for other programs."""

from __future__ import annotations

from argparse import Namespace

from ..errors import Refusal
from .progress import say


def export(args: Namespace) -> None:
    """Write one generator as ONNX, TorchScript or a bioimage.io package, for other programs."""
    from ..model.exported import write_bioimageio, write_onnx, write_torchscript
    from ..model.saved import load_model

    ways = {".onnx": write_onnx, ".zip": write_bioimageio, ".ts": write_torchscript}
    if not (write := ways.get(args.out.suffix.casefold())):
        raise Refusal(f"{args.out}: give a name that ends in .onnx, in .ts (TorchScript), or in .zip (bioimage.io).")
    if args.out.exists() and not args.overwrite:
        raise Refusal(f"{args.out} exists: give --overwrite to replace it, or another --out.")
    model = load_model(args.model)
    side = model.config.side(args.to)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, model.about, model.generator(side), side)
    say(f"{args.out} makes {model.config.label(side)} of slices in [-1, 1], (batch, channels, rows, columns)")
