"""What a run shows while it learns: a slice of a held-out head of each contrast, translated and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..atomic import naming, written_file
from ..config import ModelConfig
from ..data.inputs import as_input
from ..data.slices import Slices
from ..data.split import Split
from ..data.stored import Images
from ..events import Preview
from ..images.volume import NOTICE, Image
from ..model.cyclegan import CycleGAN
from .folder import PREVIEW_FOLDER

Head = tuple[Images, npt.NDArray[np.intp]]  # slices, and which of them are those of one head


def heads_among(t1: Slices, t2: Slices, parts: Split) -> tuple[Head, Head, bool]:
    """A held-out head of each contrast: the same one, slice by slice, where it lies on one grid in both.

    Pictures that have equal names alone may show other places.
    """
    places: list[dict[tuple[Any, ...], int]] = [
        {
            (s.keys[owner], int(s.places[n]), s.affines[owner].round(2).tobytes()): int(n)
            for n, owner in zip(held, s.owners[held], strict=True)
            if s.keys and n not in trained and s.keys[owner] and s.affines[owner] is not None
        }
        for s, held, trained in zip((t1, t2), parts.held, map(set, parts.train), strict=True)
    ]
    common = np.array([(places[0][at], places[1][at]) for at in places[0] if at in places[1]], np.intp).reshape(-1, 2)
    if paired := len(common) > 0:
        head = common[np.isin(common[:, 0], head_among(t1, common[:, 0]))]
        return (t1.images, head[:, 0]), (t2.images, head[:, 1]), paired
    return (t1.images, head_among(t1, parts.held[0])), (t2.images, head_among(t2, parts.held[1])), paired


def head_among(slices: Slices, held: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Of the slices held out, those of the volume that has most of them; of single slices all."""
    owners, counts = np.unique(slices.owners[held], return_counts=True)
    return held if counts.max() == 1 else held[slices.owners[held] == owners[counts.argmax()]]


def slice_at(at: float, images: Images, head: npt.NDArray[np.intp], model: ModelConfig) -> Tensor:
    """The slice so far up a head, from 0 to 1, as (1, 1 or 2, H, W)."""
    return as_input(images[head[min(len(head) - 1, int(at * len(head)))]][None], model)


@torch.inference_mode()
def preview(gan: CycleGAN, t1: Tensor, t2: Tensor, step: int, run: Path | None, paired: bool = False) -> Preview:
    """Translate one slice each way and back, (1, 1 or 2, H, W); written as a PNG of two rows if a run is given."""

    def image(x: Tensor) -> Image:
        result: Image = x[0, 0].float().cpu().numpy()
        return result

    with gan.averaged():
        made = gan.translate(t1, t2)
    six = (t1, made.fake_t2, made.back_t1, t2, made.fake_t1, made.back_t2)
    event = Preview(step, *(image(x) for x in six), paired=paired)
    if run is None:
        return event
    top = np.hstack([event.t1, event.fake_t2, event.back_t1])
    bottom = np.hstack([event.t2, event.fake_t1, event.back_t2])
    width = max(top.shape[1], bottom.shape[1])
    rows = np.vstack([np.pad(r, ((0, 0), (0, width - r.shape[1])), constant_values=-1) for r in (top, bottom)])
    picture = Pillow.fromarray(np.rint((np.nan_to_num(rows) + 1) * 127.5).astype(np.uint8))
    info = PngInfo()
    info.add_text("Description", f"Columns 2 and 3: {NOTICE}")
    path = run / PREVIEW_FOLDER / f"step-{step:06d}.png"
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_file(path) as partial:
            picture.save(partial, pnginfo=info)
    return event
