"""Files and folders in, volumes out. What cannot be used is named, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from .clues import bare_name, bids_label, contrast_of, folder_of_head, subject_of
from .nifti import is_nifti, read_nifti
from .volume import NOTICE, Image, Skipped, UnusableError, Volume

TIFF = frozenset({".tif", ".tiff"})
READABLE = TIFF | {".png", ".jpg", ".jpeg", ".bmp"}
NOT_RAW = frozenset({"derivatives", "sourcedata"})  # folders of a BIDS data set
SIDECARS = frozenset({".json", ".tsv", ".bval", ".bvec"})  # lie beside images in BIDS folders
Source = tuple[Path, ...]  # files that are read together
VOXEL = 0.02, 100.0  # mm, the smallest and largest side that is believed
GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})  # Pillow's modes of one channel


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder held: the usable volumes in natural order, and the rest."""

    path: Path
    volumes: list[Volume]
    skipped: list[Skipped]

    def sizes(self) -> dict[tuple[int, int], int]:
        """How many slices there are of each (rows, columns), the most frequent first."""
        count: Counter[tuple[int, int]] = Counter()
        for volume in self.volumes:
            count[volume.data.shape[1], volume.data.shape[2]] += len(volume.data)
        return dict(count.most_common())

    def summary(self) -> str:
        """Count, sizes, spacing, type and range in one line."""
        if not self.volumes:
            return "no usable images"
        sizes = ", ".join(f"{n} of {rows}x{columns}" for (rows, columns), n in self.sizes().items())
        spacings = dict.fromkeys("x".join(f"{mm:.3g}" for mm in v.spacing) for v in self.volumes if v.spacing)
        types = ", ".join(dict.fromkeys(v.dtype for v in self.volumes))
        low, high = min(v.data.min() for v in self.volumes), max(v.data.max() for v in self.volumes)
        mm = f"; {', '.join(spacings)} mm" if spacings else ""
        return f"{len(self.volumes)} images; slices: {sizes}{mm}; {types}; values {low:g} to {high:g}"

    def notes(self) -> list[str]:
        """What was done to a file on the way in, and which files were left out and why."""
        done = together((v.series or v.name, note) for v in self.volumes for note in v.notes)
        return done + [f"skipped {line}" for line in together((s.path.name, s.why) for s in self.skipped)]

    def call(self, volume: Volume) -> str:
        """What to give as `series` to get this volume and no other: its name, or its series where that is clearer."""
        named = sum(_words(volume.name) in (_words(v.name), _words(v.series)) for v in self.volumes)
        return volume.name if named == 1 and "," not in volume.name else volume.series


def together(said: Iterable[tuple[str, str]]) -> list[str]:
    """Who and what of each, as lines; of all of whom the same is said, the first is named and the others counted."""
    names: dict[str, list[str]] = {}
    for name, what in said:
        names.setdefault(what, []).append(name)
    return [f"{who[0]}{f' and {len(who) - 1} more' if who[1:] else ''}: {what}" for what, who in names.items()]


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `Image #9` before `Image #10`."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def files_in(folder: Path) -> list[Path]:
    """All files in the folder and the folders in it, in natural order, hidden ones left out.

    So are those in folders called `derivatives` or `sourcedata`, which are no raw data in BIDS, unless the folder is
    one of these or lies in one. Raises `UnusableError` where it is no folder.
    """
    if folder == Path():
        raise UnusableError("No folder was given: choose one for each contrast.")
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UnusableError(f"{folder} {what}: give a folder of images.")
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    not_raw = NOT_RAW if NOT_RAW.isdisjoint(folder.resolve().parts) else frozenset[str]()
    seen = [p for p in found if not_raw.isdisjoint(p.parts[:-1]) and not any(part.startswith(".") for part in p.parts)]
    return [folder / p for p in sorted(seen, key=lambda p: [natural(Path(part)) for part in p.parts])]


def read_folder(folder: Path, contrast: str = "", *, series: str = "", frame: int = 0) -> Folder:
    """Read every image of a folder and of the folders in it.

    Parameters
    ----------
    folder
        Of PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM files, in any mixture and order.
    contrast
        What the images show. What looks like another contrast, by its name or headers, is left out and named, so
        that one folder of T1 and T2 series serves both.
    series
        Take these and no others: names, or parts of them, with commas between; then looks do not matter. A whole
        name, which may hold commas, stands for itself alone, also where it is a part of others.
    frame
        Which volume of a 4D file to take, counted from 0.

    Raises
    ------
    UnusableError
        Where the folder is missing or holds no usable image; a sentence that names it.
    """
    return choose(read_all(folder, frame=frame), contrast, series)


def read_all(folder: Path, *, frame: int = 0) -> Folder:
    """Read every image of a folder and of the folders in it, whatever it shows; there may be none.

    Files of one name in several folders are told apart by their folder, and so are the heads they show. Raises
    `UnusableError` where it is no folder.
    """
    return named(folder, *read_files(files_in(folder), frame=frame))


def named(folder: Path, volumes: list[Volume], skipped: list[Skipped]) -> Folder:
    """All that was read of a folder: files of one name in several folders told apart, and so the heads they show."""
    often = Counter(v.series for v in volumes)
    told_apart = [
        replace(v, series=v.path.relative_to(folder).as_posix()) if often[v.series] > 1 and v.path else v
        for v in volumes
    ]
    return Folder(folder, _heads_by_folder(told_apart, folder), skipped)


def _heads_by_folder(volumes: list[Volume], folder: Path) -> list[Volume]:
    """Volumes with the folder they lie in as subject, where their names repeat between folders: P0/T1, P1/T1.

    DICOM series and files with a BIDS label keep the subject that their headers or names tell.
    """
    of = {
        i: folder_of_head(v.path.relative_to(folder))
        for i, v in enumerate(volumes)
        if v.path and not v.files and not bids_label(v.path)
    }
    spread: dict[str, set[str]] = {}
    for i, head in of.items():
        if head and (path := volumes[i].path):
            spread.setdefault(bare_name(path), set()).add(head)
    if all(len(heads) < 2 for heads in spread.values()):
        return volumes
    return [replace(v, subject=of.get(i) or v.subject) for i, v in enumerate(volumes)]


def choose(everything: Folder, contrast: str, series: str = "") -> Folder:
    """What `read_folder` takes of all that a folder holds. Raises `UnusableError` where that is nothing."""
    folder = everything.path
    volumes, left_out = _chosen(everything.volumes, contrast, series, folder)
    skipped = everything.skipped + left_out
    if not volumes:
        lines = together((s.path.name, s.why) for s in skipped)
        reasons = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} other reasons" if len(lines) > 3 else "")
        found = f"nothing in it can be used ({reasons})" if skipped else "it is empty"
        raise UnusableError(f"{folder} holds no images: {found}. Give a folder of {_readable()} files.")
    return Folder(folder, [replace(v, contrast=contrast) for v in volumes], skipped)


def read_files(paths: Sequence[Path], *, frame: int = 0) -> tuple[list[Volume], list[Skipped]]:
    """Read files of any kind; DICOM slices become one volume a series. What cannot be used is named."""
    return gathered([read_source(source, frame=frame) for source in sources_in(paths)])


def sources_in(paths: Sequence[Path]) -> list[Source]:
    """What can be read one after the other: pictures and volumes each alone, then the files of each DICOM series."""
    from .dicom import by_series, is_dicom

    alone: list[Source] = []
    dicoms: list[Path] = []
    for path in paths:
        if path.suffix.casefold() in SIDECARS or _is_second_half(path):
            continue
        if not _is_known(path) and is_dicom(path):
            dicoms.append(path)
        else:
            alone.append((path,))
    return alone + by_series(dicoms)


@dataclass(frozen=True, slots=True)
class Part:
    """What one source held, and for DICOM where each volume stands among those of other series."""

    volumes: list[Volume]
    skipped: list[Skipped]
    orders: list[Any] = field(default_factory=list)


def read_source(source: Source, *, frame: int = 0) -> Part:
    """Read one of `sources_in`."""
    from .dicom import is_dicom, read_stacks

    path, *others = source
    found: Sequence[tuple[Any, Volume]] = []
    if others or (not _is_known(path) and is_dicom(path)):
        found, skipped = read_stacks(source)
    else:
        try:
            found, skipped = [(None, read_image(path, frame=frame))], []
        except UnusableError as error:
            skipped = [Skipped(path, str(error).removeprefix(f"{path.name}: "))]
    skipped += [Skipped(v.path or Path(v.name), why) for _, v in found if (why := _impossible(v))]
    kept = [(order, v) for order, v in found if not _impossible(v)]
    return Part([v for _, v in kept], skipped, [order for order, _ in kept if order])


def gathered(parts: Sequence[Part]) -> tuple[list[Volume], list[Skipped]]:
    """The volumes of all sources, DICOM last and by the number of its series; and what was skipped."""
    from .dicom import in_order

    alone = [v for part in parts if not part.orders for v in part.volumes]
    stacks = [pair for part in parts for pair in zip(part.orders, part.volumes, strict=False)]
    return alone + in_order(stacks), [s for part in parts for s in part.skipped]


def _is_known(path: Path) -> bool:
    return is_nifti(path) or path.suffix.casefold() in READABLE


def _impossible(volume: Volume) -> str:
    """A sentence where the voxels cannot be those of a head."""
    if not volume.spacing or all(VOXEL[0] <= mm <= VOXEL[1] for mm in volume.spacing):
        return ""
    sides = "x".join(f"{mm:.4g}" for mm in volume.spacing)
    return f"its voxels are {sides} mm, which no scan of a head has; correct the header."


def read_image(path: Path, contrast: str = "", *, flat: bool = False, frame: int = 0) -> Volume:
    """Read one PNG, JPEG, BMP, TIFF, NIfTI, MGH or DICOM file; a stack becomes a volume.

    Colour becomes grey and is noted. An image of one value is refused unless `flat` allows it; of a 4D file, the
    volume numbered `frame` is read. Raises `UnusableError` with a sentence where the file cannot be used.
    """
    from .dicom import is_dicom, read_dicoms

    if not path.is_file():
        raise UnusableError(f"{path} does not exist: check the name.")
    if path.stat().st_size == 0:
        raise UnusableError(f"{path.name}: the file is empty (0 bytes); copy it again.")
    suffix = path.suffix.casefold()
    if is_nifti(path):
        return read_nifti(path, contrast, flat=flat, frame=frame)
    if suffix not in READABLE:
        if not is_dicom(path):
            raise UnusableError(f"{path.name}: not an image that can be read here; give {_readable()}.")
        read, refused = read_dicoms([path])
        if not read:
            raise UnusableError(str(refused[0]))
        return replace(read[0], contrast=contrast)
    try:
        data, notes = _read_tiff(path) if suffix in TIFF else _read_picture(path)
        synthetic = _says_synthetic(path)
    except UnusableError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        reason = str(error).replace(f" {str(path)!r}", "").rstrip(".") or type(error).__name__
        raise UnusableError(f"{path.name}: cannot be decoded ({reason}); is it truncated, or no image?") from error
    values, more = finite(data.astype(np.float32), path.name)
    if not flat and values.min() == values.max():
        raise UnusableError(f"{path.name}: every pixel is {values.flat[0]:g}; there is no image in it; leave it out.")
    stack = values.reshape(-1, *values.shape[-2:])
    return Volume(
        data=stack,
        name=path.stem,
        contrast=contrast,
        looks=contrast_of([path.stem]),
        dtype=data.dtype.name,
        path=path,
        subject=subject_of(path, len(stack) > 1),
        series=path.name,
        synthetic=synthetic,
        notes=notes + more,
    )


def finite(values: Image, name: str) -> tuple[Image, tuple[str, ...]]:
    """The values, their NaN and infinities now the lowest finite one, in place; and a note that counts them."""
    good = np.isfinite(values)
    if good.all():
        return values, ()
    if not good.any():
        raise UnusableError(f"{name}: no pixel is a finite number.")
    note = f"{(~good).sum()} pixels are NaN or infinite and were set to the lowest value"
    np.copyto(values, values.min(where=good, initial=np.inf), where=~good)  # a large volume is not copied
    return values, (note,)


def to_grey(data: Any) -> Any:
    """RGB or RGBA in the last axis to luminance (ITU-R BT.601), of the same type; alpha is dropped, dask stays lazy."""
    red, green, blue = (data[..., i].astype(np.float64) for i in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return (np.rint(grey) if np.issubdtype(data.dtype, np.integer) else grey).astype(data.dtype)


def _read_picture(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    with Pillow.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in GREY:
            data = np.asarray(picture)
            return (data.astype(np.uint8) if data.dtype == bool else data), ()
        notes = ("transparency was dropped",) if "A" in picture.getbands() or "transparency" in picture.info else ()
        return _grey(np.asarray(picture.convert("RGB")), notes)


def _read_tiff(path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise UnusableError(f"{path.name}: the TIFF holds no image.")
        series = tiff.series[0]
        data, axes = series.asarray(), series.axes
    notes: tuple[str, ...] = ()
    if axes.endswith("S") and data.shape[-1] in (3, 4):
        data, notes = _grey(data, ())
    data = data.squeeze() if data.ndim > 3 else data
    if data.ndim not in (2, 3):
        raise UnusableError(
            f"{path.name}: shape {data.shape} is not one image or one stack; save one channel and time."
        )
    return data, notes


def _says_synthetic(path: Path) -> bool:
    """Whether a picture's description is that of a synthetic image, as this plugin writes it."""
    if path.suffix.casefold() in TIFF:
        with tifffile.TiffFile(path) as tiff:
            said = tiff.pages[0].description  # type: ignore[union-attr]
    else:
        with Pillow.open(path) as opened:
            said = str(opened.info.get("Description", ""))
    return NOTICE in said


def _grey(colour: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if (colour[..., :1] == colour[..., :3]).all():  # stored as colour, grey all the same
        return colour[..., 0], notes
    return to_grey(colour), (*notes, "colour was turned to grey")


def _chosen(volumes: list[Volume], contrast: str, series: str, folder: Path) -> tuple[list[Volume], list[Skipped]]:
    """The volumes of one contrast, or those whose names the user gave; and the others, each with the reason."""
    if wanted := _words(series):
        return _named(volumes, wanted, folder), []
    asked = contrast_of([contrast]) or contrast
    mixed = any(v.looks not in ("", asked) for v in volumes)
    kept: list[Volume] = []
    left_out: list[Skipped] = []
    of_dicom: dict[str, list[Volume]] = {}
    for v in volumes:
        if v.synthetic and contrast:
            says = "it is synthetic"
        elif not contrast_of([contrast]) or v.looks == asked or not (v.looks or mixed):
            kept.append(v)
            continue
        else:
            says = f"it looks like {v.looks}" if v.looks else "nothing says which contrast it is"
        why = f"{says}, so it is not taken as {contrast}; to take it all the same, name it as a series"
        if v.files:
            of_dicom.setdefault(why, []).append(v)
        else:
            left_out.append(Skipped(v.path or folder, why))
    for why, alike in of_dicom.items():  # a folder may hold a hundred heads
        (line,) = together((v.series, why) for v in alike)
        left_out.append(Skipped(alike[0].path or folder, line))
    return kept, left_out


def _words(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _named(volumes: list[Volume], wanted: tuple[str, ...], folder: Path) -> list[Volume]:
    """The volumes that a user named: by a whole name, of as many words as it has, else by a part of one."""
    whole: dict[tuple[str, ...], set[int]] = {}
    of_any_case: dict[tuple[str, ...], set[int]] = {}
    for i, v in enumerate(volumes):
        for title in (v.series, v.name):
            whole.setdefault(_words(title), set()).add(i)
            of_any_case.setdefault(_words(title.casefold()), set()).add(i)
    longest = max(map(len, whole), default=1)
    taken: set[int] = set()
    while wanted:
        counts = range(min(longest, len(wanted)), 0, -1)
        found = next(((whole[wanted[:n]], n) for n in counts if wanted[:n] in whole), None)
        folded = tuple(word.casefold() for word in wanted[:longest])
        found = found or next(((of_any_case[folded[:n]], n) for n in counts if folded[:n] in of_any_case), None)
        if not found:
            found = {i for i, v in enumerate(volumes) if folded[0] in f"{v.series} {v.name}".casefold()}, 1
        indices, used = found
        if not indices:
            there = ", ".join(v.series or v.name for v in volumes[:20]) or "nothing"
            raise UnusableError(f"{folder} has no series called {wanted[0]!r}: it has {there}.")
        taken |= indices
        wanted = wanted[used:]
    return [v for i, v in enumerate(volumes) if i in taken]


def _is_second_half(path: Path) -> bool:
    """Whether a header file only describes an .img that lies beside it."""
    return path.suffix.casefold() == ".hdr" and path.with_suffix(".img").is_file()


def _readable() -> str:
    return "PNG, TIFF, JPEG, BMP, NIfTI, MGH or DICOM"
