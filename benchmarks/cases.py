"""Each awkward case and corpus: what is read of it, and what is refused, with the reason. Prints a Markdown table.

    python benchmarks/cases.py [DATA_FOLDER] [--all]

Every folder below DATA_FOLDER/cases and DATA_FOLDER/odd, and the test files of pydicom, pydicom-data and nibabel where
they are installed, are read as `check` reads them. Of each image: shape, spacing, range, what it was taken for and by
what. What the expect.txt of a case wants is looked at where a rule below can tell; a reading that is not as wanted and
says nothing of it is a silent misreading. Of odd files, those that are broken on purpose must be refused, and MR series
that name a kind other than T1 or T2 (a scout, a map) must not be taken as one. Without --all, images of one corpus
that were read or refused alike share a row.
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from dcm2niix import packaged

from napari_t1t2.errors import Refusal
from napari_t1t2.images.folder import Folder, choose
from napari_t1t2.images.read import read_all, read_image
from napari_t1t2.images.volume import Volume
from napari_t1t2.synthesis.evaluation import evaluate_volumes

BROKEN_BUT_READ = {"jpeg_named_as.png", "no_extension_dicom", "no_preamble.dcm"}


@dataclass(frozen=True)
class Verdict:
    """Whether a reading is what the case wants, and in which words."""

    right: bool
    found: str


def main() -> None:
    """Read, print, judge."""
    parser = ArgumentParser(description="What is read of each awkward case and corpus, and what is refused.")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--all", action="store_true", help="a row for each image")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| of | image | read or refused | taken for |\n|---|---|---|---|")
    counts: Counter[str] = Counter()
    for name, folder in corpora(args.data):
        rows: Counter[tuple[str, str, str]] = Counter()
        everything = read_all(folder)
        for volume in everything.volumes:
            counts["read"] += 1
            rows[shown(volume.series or volume.name, args.all), facts(volume), taken_for(volume)] += 1
        for left_out in everything.skipped:
            counts["refused"] += 1
            rows[shown(left_out.path.name, args.all), f"refused: {left_out.why}", ""] += 1
        for (image, what, taken), count in rows.items():
            print(f"| {name} | {image}{f' and {count - 1} more' if count > 1 else ''} | {what} | {taken} |")
    print("\n| wanted | found | |\n|---|---|---|")
    for name, verdict in verdicts(args.data) if args.data else ():
        counts["as wanted" if verdict.right else "silent misreadings"] += 1
        print(f"| {name} | {verdict.found} | {'as wanted' if verdict.right else 'WRONG'} |")
    print(f"\n{counts['read']} read, {counts['refused']} refused; {counts['as wanted']} expectations met, ", end="")
    print(f"silent misreadings: {counts['silent misreadings']}.")


def corpora(data: Path | None) -> Iterator[tuple[str, Path]]:
    """The folders to look at, each with its name."""
    if data:
        for root in ("cases", "odd"):
            yield from ((folder.name, folder) for folder in sorted((data / root).iterdir()) if folder.is_dir())
    yield from ((folder.parts[-2], folder) for folder in packaged() if folder.is_dir())


def shown(name: str, everything: bool) -> str:
    """A name, or its beginning where alike images shall share a row."""
    return name if everything else name.split(",")[0].rstrip("0123456789_ ")[:40] or "images"


def facts(volume: Volume) -> str:
    """Shape, spacing, range and notes."""
    mm = "x".join(f"{side:.3g}" for side in volume.spacing) + " mm" if volume.spacing else "no spacing"
    shape = "x".join(map(str, volume.data.shape))
    said = [f"{shape}, {mm}, {volume.data.min():.5g} to {volume.data.max():.5g}", *volume.notes]
    return "; ".join(said).replace("|", "/")


def taken_for(volume: Volume) -> str:
    """What it looks like, and by what; or why it is used for nothing."""
    if volume.why_not():
        return volume.why_not().replace("|", "/")
    return f"{volume.looks} ({volume.why})".replace("|", "/") if volume.looks else "not told"


def verdicts(data: Path) -> Iterator[tuple[str, Verdict]]:
    """Of each case of which an expectation can be checked, and of the files that are broken on purpose."""
    for name, check in CHECKS.items():
        if (folder := data / "cases" / name).is_dir():
            yield name, check(folder)
    for path in sorted((data / "odd/broken").iterdir()):
        try:
            volume = read_image(path)
        except Refusal as error:
            yield f"odd/broken/{path.name}", Verdict(path.name not in BROKEN_BUT_READ, f"refused: {error}")
        else:
            yield f"odd/broken/{path.name}", Verdict(path.name in BROKEN_BUT_READ, facts(volume))


def taken(folder: Path, contrast: str, frame: int = 0) -> Folder:
    """What is used as a contrast; nothing where that is refused."""
    everything = read_all(folder, frame=frame)
    try:
        return choose(everything, contrast)
    except Refusal as error:
        print(f"<!-- {folder.parent.name}: {error} -->")
        return Folder(folder, [], everything.skipped)


def expects(**wanted: tuple[int, str]) -> Callable[[Path], Verdict]:
    """A check of how many images of each contrast are used, which a word in the reasons of the rest must explain."""

    def check(folder: Path) -> Verdict:
        right, found = True, list[str]()
        for contrast, (count, word) in wanted.items():
            chosen = taken(folder, contrast)
            reasons = " ".join(s.why for s in chosen.skipped) + " ".join(v.looks for v in read_all(folder).volumes)
            right &= len(chosen.volumes) == count and word in reasons
            slices = "+".join(str(len(v.data)) for v in chosen.volumes)
            left = dict(Counter(s.why.split(",")[0] for s in chosen.skipped))
            found.append(f"{contrast}: {len(chosen.volumes)} ({slices} slices); left out: {left}")
        return Verdict(right, "; ".join(found).replace("|", "/"))

    return check


def of_pdt2(folder: Path) -> Verdict:
    """T2 is the second volume of each file."""
    second = [v for v in taken(folder, "T2", 1).volumes if "PDT2" in v.name]
    t1 = taken(folder, "T1", 0).volumes
    same = all(np.array_equal(v.data, np.asarray(nibabel.load(v.path).dataobj)[..., 1].T) for v in second if v.path)
    return Verdict(
        same and (len(t1), len(second)) == (2, 2), f"T1: {len(t1)}; T2: number 1 of {len(second)} PDT2 files"
    )


def of_decathlon(folder: Path) -> Verdict:
    """Volume 1 for T1, volume 3 for T2."""
    files = sorted(folder.rglob("*.nii.gz"))
    right = all(
        np.array_equal(read_image(path, frame=n).data, np.asarray(nibabel.load(path).dataobj)[..., n].T)
        for path in files
        for n in (1, 3)
    )
    said = all("the volume number chooses" in " ".join(read_image(path).notes) for path in files)
    return Verdict(right and said, f"volumes 1 and 3 of {len(files)} files by --t1-volume and --t2-volume; said")


def of_headers(folder: Path) -> Verdict:
    """Voxels of 2.2x2.2x6 mm, or the contradiction is said."""
    bad = read_all(folder / "bad").volumes
    found = {(tuple(round(mm, 1) for mm in v.spacing or ()), v.notes) for v in bad}
    return Verdict(all(mm == (6.0, 2.2, 2.2) or notes for mm, notes in found), "; ".join(map(str, found)))


def of_pictures(folder: Path) -> Verdict:
    """Dark corners; one keeps its 16 bits; what is no picture that is read is named, if not hidden."""
    read = taken(folder / "T1", "T1")
    dark = all(v.data[0, 0, 0] < 0.2 * v.data.max() for v in read.volumes)
    deep = max(v.data.max() for v in read.volumes)
    named = {s.path.name for s in read.skipped}
    return Verdict(
        dark and 36000 < deep <= 37000 and not any(n.startswith(".") for n in named),
        f"{len(read.volumes)} pictures, dark corners: {dark}, largest {deep:g}; named: {', '.join(sorted(named))}",
    )


def of_grids(folder: Path) -> Verdict:
    """Mirrored storage scores as identical; another grid, place or unit is said, resampled or refused."""
    [fake] = [read_image(path) for path in sorted((folder / "fake").rglob("*.nii*"))][:1]
    said, right = list[str](), True
    for other in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "fake"):
        for path in sorted(other.rglob("*.nii*"))[:1]:
            try:
                score = evaluate_volumes(fake, read_image(path))
                said.append(f"{other.name}: SSIM {score.ssim:.3g} {score.remark()}".strip())
                right &= score.ssim < 0.999 or other.name == "real_other_grid"
                right &= bool(score.remark()) or other.name != "real_units"
            except Refusal as error:
                said.append(f"{other.name}: refused: {error}")
    return Verdict(right, " / ".join(said).replace("|", "/"))


CHECKS: dict[str, Callable[[Path], Verdict]] = {
    "01-localizer": expects(T1=(1, "localizer"), T2=(1, "localizer")),
    "03-mp2rage": expects(T1=(2, "inversion image")),  # UNI and UNI-DEN
    "05-pdt2-frame": of_pdt2,
    "06-bids-part-phase": expects(T1=(2, "phase")),
    "08-label-maps": lambda folder: expects(T1=(2, "label map"))(folder / "T1"),
    "09-sform-not-pixdim": of_headers,
    "13-tiff-planar-rgb": lambda folder: expects(T1=(5, ""))(folder / "T1"),
    "18-ge-echoes-alike": lambda folder: expects(T2=(0, "no tag tells"))(folder / "dcm"),
    "19-brats-t1ce": lambda folder: expects(T1=(2, "T1 with contrast agent"))(folder / "BraTS"),
    "20-web-pictures": of_pictures,
    "21-t1-called-t2": expects(T2=(1, "which no T2 has")),
    "29-evaluate-grids": of_grids,
    "35-anonymised-no-series-uid": lambda folder: expects(T1=(2, ""))(folder / "flat"),
    "36-decathlon-4d-modalities": of_decathlon,
}


if __name__ == "__main__":
    main()
