"""Make a synthetic T2 of every T1 in a folder: python translate_folder.py MODEL T1 OUT. MODEL may be `sample`."""

import sys
from pathlib import Path

from napari_t1t2.images.read import read_folder
from napari_t1t2.images.write import name_for, write_image
from napari_t1t2.model.saved import load_model
from napari_t1t2.synthesis.translation import translate


def main(model_file: Path, folder: Path, out: Path) -> list[Path]:
    """Translate what looks like T1, and return the files written."""
    model, found, written = load_model(model_file), read_folder(folder, "T1"), []
    print(*found.notes(), sep="\n")  # what was left out, and why
    for volume in found.volumes:
        made = translate(volume, model, to="T2")  # it says of itself that it is synthetic
        written += write_image(out / name_for(made, "T2"), made)
    return written


if __name__ == "__main__":
    print(*main(*map(Path, sys.argv[1:])), sep="\n")
