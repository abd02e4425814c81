"""What a run shows while it learns: a slice of a held-out head of each contrast, translated and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..config import ModelConfig
from ..data.inputs import as_input
from ..data.slices import Slices
from ..data.stored import Images
from ..events import Preview
from ..images.volume import NOTICE, Image
from ..model.cyclegan import CycleGAN
from .folder import PREVIEW_FOLDER

Head = tuple[Images, npt.NDArray[np.intp]]  # slices, and which of them are those of one head


def head_among(slices: Slices, held: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Of the slices held out, those of the volume that has most of them; of single slices all."""
    owners, counts = np.unique(slices.owners[held], return_counts=True)
    return held if counts.max() == 1 else held[slices.owners[held] == owners[counts.argmax()]]


def slice_at(at: float, images: Images, head: npt.NDArray[np.intp], model: ModelConfig) -> Tensor:
    """The slice so far up a head, from 0 to 1, as (1, 1 or 2, H, W)."""
    return as_input(images[head[min(len(head) - 1, int(at * len(head)))]][None], model)


@torch.inference_mode()
def preview(gan: CycleGAN, t1: Tensor, t2: Tensor, step: int, run: Path | None) -> Preview:
    """Translate one slice each way and back, (1, 1 or 2, H, W); written as a PNG of two rows if a run is given."""

    def image(x: Tensor) -> Image:
        result: Image = x[0, 0].float().cpu().numpy()
        return result

    with gan.averaged():
        made = gan.translate(t1, t2)
    event = Preview(step, *(image(x) for x in (t1, made.fake_t2, made.back_t1, t2, made.fake_t1, made.back_t2)))
    if run is None:
        return event
    top = np.hstack([event.t1, event.fake_t2, event.back_t1])
    bottom = np.hstack([event.t2, event.fake_t1, event.back_t2])
    width = max(top.shape[1], bottom.shape[1])
    rows = np.vstack([np.pad(r, ((0, 0), (0, width - r.shape[1])), constant_values=-1) for r in (top, bottom)])
    picture = Pillow.fromarray(np.rint((np.nan_to_num(rows) + 1) * 127.5).astype(np.uint8))
    (run / PREVIEW_FOLDER).mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("Description", f"Columns 2 and 3: {NOTICE}")
    picture.save(run / PREVIEW_FOLDER / f"step-{step:06d}.png", pnginfo=info)
    return event
