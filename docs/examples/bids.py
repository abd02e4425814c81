"""Add a synthetic T2w to each T1w of a BIDS data set that has none: python bids.py BIDS MODEL DERIVATIVES."""

import sys
from pathlib import Path

from napari_t1t2.errors import Refusal
from napari_t1t2.images.read import read_image
from napari_t1t2.images.write import write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.translation import translate


def main(bids: Path, model_file: Path, derivatives: Path) -> dict[str, str]:
    """What became of each T1w, by its name."""
    model, done = load_model(model_file), {}
    for t1 in sorted(bids.glob("sub-*/**/anat/*_T1w.nii*")):
        if t1.with_name(t1.name.replace("_T1w", "_T2w")).exists():
            done[t1.name] = "has a T2w"
            continue
        name = t1.name.replace("_T1w", "_desc-synthetic_T2w")
        try:
            made = translate(read_image(t1), model, to="T2")
            write_image(derivatives / t1.relative_to(bids).with_name(name), made)
            done[t1.name] = name
        except Refusal as why:  # a sentence; the others go on
            done[t1.name] = str(why)
    return done


if __name__ == "__main__":
    for name, what in main(*map(Path, sys.argv[1:])).items():
        print(f"{name}: {what}")
