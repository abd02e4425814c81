"""BIDS: which subjects lack a contrast, and the derivative data set that their synthetic images go to."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..atomic import written_file
from ..config import other
from ..data.sources import finish
from ..errors import Refusal
from ..images.contrast import contrast_of
from ..images.names import ending_of, map_beside, natural, stem
from ..images.nifti import read_sidecar
from ..images.read import look_over
from ..images.vocabulary import WEIGHTED
from ..images.volume import Skipped, Volume

if TYPE_CHECKING:
    from ..config import Side
    from ..model.saved import Model
    from ..provenance import Map, Provenance

DESCRIPTION = "dataset_description.json"
README = """\
# Synthetic {suffix} images. Not for diagnosis.

No scanner made these images: napari-t1t2 did, by a neural network (a CycleGAN), from each subject's {given}. They may
show what is not there, and may lack what is. The JSON file beside each image names the image it was made from (Sources)
and the model (GeneratedBy), and says whether the model was trained on that image (SourceSeenInTraining) and whether it
is unlike the training images (UnfamiliarSource).
"""


@dataclass(frozen=True)
class Plan:
    """What is to be made for one BIDS data set, where it goes, and who was passed over and why."""

    root: Path  # of the data set with the scans
    out: Path  # of the derivative data set
    given: str  # suffix of the scans
    suffix: str  # of what is made
    jobs: dict[Path, Path] = field(default_factory=dict)  # from scan to synthetic image
    passed_over: dict[str, list[str]] = field(default_factory=dict)  # from the reason to the subjects and sessions

    def pass_over(self, path: Path, why: str) -> None:
        """Note that the subject, or the session of one, that a path belongs to gets no synthetic image."""
        who = " ".join(part for part in path.parts if part.startswith(("sub-", "ses-")) and "_" not in part)
        self.passed_over.setdefault(why.rstrip("."), []).append(who)

    def read(self, frame: int) -> tuple[list[Volume], list[str], list[Skipped], list[Skipped]]:
        """The scans, to be loaded one by one; who was passed over, by the reasons; what is left out, what is broken."""
        volumes, skipped = finish(look_over(list(self.jobs), frame=frame, places=False))
        kept, left_out = [], []
        for volume, path in ((v, v.path or Path(v.name)) for v in volumes):
            why = volume.why_not()
            if not why and volume.looks != WEIGHTED[self.given]:
                why = f"looks like {volume.looks or 'nothing known'}"
            if why:
                self.pass_over(path, f"its {self.given} {why}")
                left_out.append(Skipped(path, why))
            else:
                kept.append(volume)
        notes = [f"passed over, {why}: {', '.join(who)}" for why, who in self.passed_over.items()]
        if not kept:
            notes.append(f"Nobody in {self.root} is left to translate.")
        return kept, notes, left_out, skipped

    def targets(self, volumes: Sequence[Volume]) -> list[Path]:
        """Where the synthetic image of each goes."""
        return [self.jobs[v.path] for v in volumes if v.path]

    def say_source(self, made: Provenance, volume: Volume) -> Provenance:
        """The provenance with the scan as BIDS names it."""
        assert volume.path is not None
        return replace(made, source=f"bids:raw:{volume.path.relative_to(self.root).as_posix()}")

    def begin(self, model: Model) -> None:
        """Write what describes the data set, or add the model to it: one that is never finished is valid too."""
        about, raw, before = model.about, _described(self.root), _described(self.out).get("GeneratedBy", [])
        path = f"{about.path.resolve().parent.name}/{about.path.name}"
        what = f"CycleGAN {path}, step {about.step}, SHA-256 {model.sha256}"
        by = {"Name": "napari-t1t2", "Version": __version__, "Description": what}
        said = {
            "Name": f"Synthetic {self.suffix} of {raw.get('Name') or self.root.name}. Not for diagnosis.",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": before if by in before else [*before, by],
            "DatasetLinks": {"raw": Path(os.path.relpath(self.root, self.out)).as_posix()},
        }
        if raw.get("DatasetDOI"):
            said["SourceDatasets"] = [{"DOI": raw["DatasetDOI"]}]
        readme = README.format(suffix=self.suffix, given=self.given)
        self.out.mkdir(parents=True, exist_ok=True)
        for name, text in ((DESCRIPTION, json.dumps(said, indent=2, ensure_ascii=False) + "\n"), ("README.md", readme)):
            with written_file(self.out / name) as partial:
                partial.write_text(text, encoding="utf-8")


def plan_for(args: Namespace, model: Model, to: Side) -> Plan:
    """The plan for the arguments of a command; the data set is begun. Raises `Refusal` where this cannot be BIDS."""
    if len(args.inputs) > 1 or args.series:
        raise Refusal("--bids takes one folder, the root of a BIDS data set, and no --series.")
    labels = model.config.label(other(to)), model.config.label(to)
    asked = {"overwrite": args.overwrite, "model_sha256": model.sha256, "with_maps": args.maps}
    plan = plan_of(args.inputs[0], args.bids, *labels, **asked)
    if plan.jobs:
        plan.begin(model)
    return plan


def plan_of(
    root: Path,
    out: Path,
    given: str,
    wanted: str,
    *,
    overwrite: bool = False,
    model_sha256: str = "",
    with_maps: Sequence[Map] = (),
) -> Plan:
    """Which scans of a BIDS data set to translate from a contrast to the one wanted: of those who lack it.

    What `out` holds already is left as it is, unless `overwrite`, or it was made by this model and lacks one of the
    maps `with_maps`. Raises `Refusal` where this cannot be BIDS.
    """
    suffix_of = {contrast: suffix for suffix, contrast in reversed(WEIGHTED.items())}  # the first counts
    of, to = (suffix_of.get(contrast_of([label]), "") for label in (given, wanted))
    if not of or not to:
        raise Refusal(f"BIDS has no name for {wanted if of else given}: use --out.")
    root, out = root.resolve(), out.resolve()
    subjects = sorted((path for path in root.glob("sub-*") if path.is_dir()), key=natural)
    if not subjects:
        raise Refusal(f"{root} holds no folders called sub-...: give the root of a BIDS data set.")
    if out == root or (out.is_relative_to(root) and "derivatives" not in out.relative_to(root).parts):
        raise Refusal(f"{out} lies among the scans: give --bids {root / 'derivatives/napari-t1t2'}, or another folder.")
    ours = any(by.get("Name") == "napari-t1t2" for by in _described(out).get("GeneratedBy", []))
    if not ours and out.exists() and (out.is_file() or any(out.iterdir())):
        raise Refusal(f"{out} holds something that napari-t1t2 did not make: give a new folder for --bids.")
    plan = Plan(root, out, of, to)
    for folder in (place for subject in subjects for place in sorted(subject.glob("ses-*"), key=natural) or [subject]):
        images = sorted((folder / "anat").glob("*.nii*"), key=natural)
        scans, there = (list(_weighted(images, suffix)) for suffix in (of, to))
        if there or len(scans) != 1:
            why = f"has several {of} images (runs): translate the one to use with --out" if scans else f"has no {of}"
            if no := [p for p in images if not scans and stem(p).endswith(f"_{of}")]:
                why += f" but {no[0].name}, which is {contrast_of([stem(no[0])])}"
            plan.pass_over(folder, f"has a {to} already" if there else why)
            continue
        name = f"{stem(scans[0]).removesuffix(of)}desc-synthetic_{to}{ending_of(scans[0])}"
        target = (out / scans[0].relative_to(root)).with_name(name)
        said = read_sidecar(target) if target.exists() and not overwrite else None  # the last to be written
        same = said is not None and said.model_sha256 == model_sha256
        if said and not (same and not all(_has_map(target, title, model_sha256) for title in with_maps)):
            by = "this" if same else "another"
            plan.pass_over(folder, f"was made before, by {by} model (--overwrite makes it again)")
        else:
            plan.jobs[scans[0]] = target
    return plan


def _has_map(target: Path, title: Map, model_sha256: str) -> bool:
    """Whether the map of that title beside an image is there, whole, and of that model."""
    beside = map_beside(target, title)
    said = read_sidecar(beside) if beside.exists() else None
    return said is not None and said.model_sha256 == model_sha256


def _weighted(images: list[Path], suffix: str) -> Iterator[Path]:
    """Those with a suffix, without phase images, label maps and T1 with contrast agent, which carry it too."""
    for path in images:
        if stem(path).endswith(f"_{suffix}") and contrast_of([stem(path)]) == WEIGHTED[suffix]:
            yield path


def _described(root: Path) -> dict[str, Any]:
    """What a data set says of itself; empty where that is nothing, or cannot be read."""
    try:
        said = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
