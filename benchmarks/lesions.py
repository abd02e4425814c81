"""How much of a lesion that no training image had survives translation? Prints a Markdown table.

    python benchmarks/lesions.py DATA --set seed --model RUN [--model RUN2 ...]

A soft ball, bright or dark by 0.3 of the head's range, is put into the white matter of held-out slices, one at a time,
and the slice is translated with and without it. No truth is known for such a lesion, so nothing is right or wrong by
itself: compare a model with the supervised ceiling (a RUN of benchmarks/quality.py --keep) and with the lookup table,
which changes nothing outside the ball. Changes are parts of the range of the head, of either contrast.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quality import SETS, WAYS, Pair, as_bytes, load_set, table_of
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_t1t2.config import Side
from napari_t1t2.images.head import Mask, head_mask
from napari_t1t2.images.volume import Image
from napari_t1t2.model.saved import Model, load_model
from napari_t1t2.synthesis.prepare import input_range
from napari_t1t2.synthesis.translation import translate

RADII = (2, 4, 8)  # pixels
CONTRAST = 0.3  # of the range of the head
MARGIN = 2  # pixels around a ball that still count as the ball; a network blurs
RING = 3  # pixels beyond the margin that the ball is compared with
LOST = 0.2  # a lesion of which less than this is transmitted can hardly be seen
SLICES, PLACES = 5, 2
Maker = Callable[[Image, Image], Image]  # (slice, the slice without a lesion) -> translated slice


@dataclass(frozen=True)
class Survival:
    """What one lesion became, in parts of the range of the head.

    `transmitted` is the output's change of contrast between ball and ring for each unit of the input's; negative where
    bright became dark. `inside` is the share of all absolute change that lies in the ball and its margin. `outside` is
    the strongest change (percentile 99.9) elsewhere in the head, for each unit of the input's: false structure.
    """

    transmitted: float
    inside: float
    outside: float


def main() -> None:
    """Insert, translate, measure, print."""
    parser = ArgumentParser(description="How much of a lesion's contrast survives translation.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=SETS, default="seed")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a run folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = load_set(args.set, args.data, Path(folder))
        fitted = data.fitted()
    print("| tested on | way | ball | radius | row | lesions | transmitted | lost | change inside | false outside |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    models = [(path.name, load_model(path)) for path in args.model]
    for test, pair in data.tested.items():
        for source, way in enumerate(WAYS):
            table = table_of(fitted, source)
            rows = {"lookup table": recolouring(table), **{name: network(m, source) for name, m in models}}
            for sign, ball in ((1, "bright"), (-1, "dark")):
                for radius in RADII:
                    for name, make in rows.items():
                        found = survivals(pair, source, make, radius, sign * CONTRAST)
                        print(f"| {test} | {way} | {ball} | {radius} | {name} | {summary(found)} |", flush=True)


def recolouring(table: Image) -> Maker:
    """A lookup table."""
    return lambda image, _: table[image.astype(np.uint8)]


def network(model: Model, source: int) -> Maker:
    """A generator; both slices are read with the range of the one without a lesion."""
    to: Side = ("t2", "t1")[source]  # type: ignore[assignment]
    return lambda image, plain: translate(image, model, to=to, intensity=input_range(plain, model, to)[0])


def survivals(pair: Pair, source: int, make: Maker, radius: int, contrast: float) -> list[Survival]:
    """Of one ball at each place of some slices from the middle half of the set."""
    t1, t2 = ([v.data[0] for v in volumes] for volumes in pair)
    spans = span_of_head(t1), span_of_head(t2)
    chosen = np.unique(np.linspace(len(t1) // 4, 3 * len(t1) // 4, SLICES).astype(int))
    found = []
    for index in chosen:
        plain, head = (t1, t2)[source][index], head_of(t1[index])
        made = make(plain, plain)
        for place in places(t1[index], t2[index]):
            ball = soft_ball((plain.shape[0], plain.shape[1]), place, radius)
            lesion = as_bytes(plain + ball * np.float32(contrast * spans[source]))
            before = (lesion - plain) / spans[source]
            after = (make(lesion, plain) - made) / spans[1 - source]
            survival = measure_survival(before, after, head, place, radius)
            found += [survival] if survival else []
    return found


def soft_ball(shape: tuple[int, int], place: tuple[int, int], radius: float) -> Image:
    """The section through a ball's centre: 1 inside, 0 outside, an edge of two pixels between."""
    ball: Image = np.clip((radius + 1 - distance_from(shape, place)) / 2, 0, 1).astype(np.float32)
    return ball


def measure_survival(before: Image, after: Image, head: Mask, place: tuple[int, int], radius: float) -> Survival | None:
    """From the change of the input and of the output; None where the 8 bits left nearly none of the lesion."""
    distance = distance_from((before.shape[0], before.shape[1]), place)
    ball, near = distance <= radius, distance <= radius + MARGIN
    ring = head & ~near & (distance <= radius + MARGIN + RING)
    put_in = float(before[ball].mean())
    if abs(put_in) < 0.05:
        return None
    came_out = float(after[ball].mean() - after[ring].mean())
    change = np.abs(after)
    total = float(change.sum())
    return Survival(
        transmitted=came_out / put_in,
        inside=float(change[near].sum()) / total if total else 1.0,
        outside=float(np.percentile(change[head & ~near], 99.9)) / abs(put_in),
    )


def places(t1: Image, t2: Image) -> list[tuple[int, int]]:
    """Where T1 is brightest beside T2, as white matter is; deep in the head, and so far apart that rings do not meet.

    The same for every radius, so that radii can be compared.
    """
    depth = distance_transform_edt(np.pad(head_of(t1), 1))[1:-1, 1:-1]
    room = max(RADII) + MARGIN + RING
    white = gaussian_filter(t1 / t1.max() - t2 / t2.max(), 2)
    white = np.where(depth >= min(1.5 * room, 0.7 * depth.max()), white, -np.inf)  # scalp and skull are not deep
    found: list[tuple[int, int]] = []
    while len(found) < PLACES and np.isfinite(white.max()):
        row, column = (int(i) for i in np.unravel_index(int(white.argmax()), white.shape))
        found.append((row, column))
        white[distance_from((white.shape[0], white.shape[1]), (row, column)) < 2 * room] = -np.inf
    return found


def head_of(image: Image) -> Mask:
    """The head in an 8-bit slice."""
    return head_mask(image / np.float32(127.5) - 1)


def span_of_head(images: list[Image]) -> float:
    """From the 1st to the 99th percentile inside the head, of all slices."""
    low, high = np.percentile(np.concatenate([image[head_of(image)] for image in images]), (1, 99))
    return float(high - low)


def distance_from(shape: tuple[int, int], place: tuple[int, int]) -> Image:
    """Pixels from a place, (rows, columns)."""
    rows, columns = np.indices(shape)
    distance: Image = np.hypot(rows - place[0], columns - place[1]).astype(np.float32)
    return distance


def summary(found: list[Survival]) -> str:
    """The last cells of a line; ± is the standard deviation over lesions."""
    if not found:
        return "0 | | | |"
    transmitted, inside, outside = (
        np.array([getattr(s, name) for s in found]) for name in ("transmitted", "inside", "outside")
    )
    lost = np.mean(np.abs(transmitted) < LOST)
    return (
        f"{len(found)} | {transmitted.mean():+.2f} ± {transmitted.std():.2f} | {lost:.0%} | {inside.mean():.0%} | "
        f"{outside.mean():.2f}"
    )


if __name__ == "__main__":
    main()
