"""What `--anonymous` leaves of the attributes that DICOM PS3.15 table E.1-1 names. Prints a Markdown table.

    python benchmarks/anonymous.py [--show]

The table is that of `dicom-anonymizer` (PyPI), its newest edition. Each attribute of it that a data set may hold gets a
value in a DICOM source, nested ones included; the synthetic series of it is written with and without `anonymous`, and
what it holds of the table is counted. Then dicom-anonymizer itself goes over the anonymous series: what it would still
change is listed. `--show` names the attributes that are there, with their values.
"""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from napari_t1t2.images.dicom import read_dicoms
from napari_t1t2.images.dicom_write import write_dicom
from napari_t1t2.images.volume import Volume, spacing_of
from napari_t1t2.provenance import Provenance

SAYS = Provenance(contrast="T2", model="run/model.safetensors", model_sha256="ab" * 32, step=7, version="0.1.0")
WORD = "PLANTED"
VALUES: dict[str, Any] = {  # by the kind of value
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), WORD),
    **{"AS": "077Y", "DA": "19770707", "TM": "070707", "DT": "19770707070707", "DS": "77.77", "IS": "7777"},
    **{"FD": 7.77, "FL": 7.77, "OB": b"PLANTED ", "OW": b"PLANTED ", "UN": b"PLANTED ", "US": 777, "UL": 777},
}
NOT_HERE = {"PixelData", "FloatPixelData", "OverlayData"}  # would be another image


def main() -> None:
    """Plant, write, count, print."""
    parser = ArgumentParser(description="What --anonymous leaves of the attributes of DICOM PS3.15 table E.1-1.")
    parser.add_argument("--show", action="store_true", help="name the attributes that are there")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's, of planted values that break the rules
    edition, table = newest_table()
    with tempfile.TemporaryDirectory() as folder:
        source, values = planted(Path(folder), table)
        plain = dcmread(write_dicom(Path(folder) / "plain", source)[0])
        hidden = dcmread(write_dicom(Path(folder) / "hidden", replace(source, anonymous=True))[0])
    print(
        f"PS3.15 table E.1-1 as of {edition}: {len(set().union(*table.values()))} attributes, {len(values)} planted.\n"
    )
    print(
        "| action | attributes | planted | with the source's value, patient kept | the same, anonymous | there at all |"
    )
    print("|---|---|---|---|---|---|")
    for action, tags in table.items():
        own = [tag for tag in tags if tag in values]
        counts = [sum(tag in kept(ds, values) for tag in own) for ds in (plain, hidden)]
        there = [keyword_for_tag(tag) for tag in tags if any(e.tag == tag and e.value for e in hidden.iterall())]
        print(f"| {action} | {len(tags)} | {len(own)} | {counts[0]} | {counts[1]} | {', '.join(there) or 'none'} |")
    whole = str(hidden)
    left = [word for word in (WORD, "077Y", "19770707", "7777", "1.2.777.") if word in whole]
    print(f"\nPlanted words found in the whole anonymous header, private and nested elements too: {left or 'none'}.")
    print(f"dicom-anonymizer would still change: {', '.join(still_changed(hidden)) or 'nothing'}.")
    if args.show:
        print(f"\n{hidden}")


def newest_table() -> tuple[str, dict[str, set[int]]]:
    """The edition of the standard, and for each action of the basic profile the tags."""
    import dicomanonymizer.dicom_anonymization_databases as databases

    name = max(module.name for module in pkgutil.iter_modules(databases.__path__))
    module = importlib.import_module(f"{databases.__name__}.{name}")
    names = [n for n in vars(module) if n.endswith("_TAGS") and n != "ALL_TAGS"]
    actions = {n.removesuffix("_TAGS").replace("_STAR", "*").replace("_", "/"): getattr(module, n) for n in names}
    ranges = {action: {tuple_[0] << 16 | tuple_[1] for tuple_ in tags} for action, tags in actions.items()}
    return name.removeprefix("dicomfields_"), ranges


def planted(folder: Path, table: dict[str, set[int]]) -> tuple[Volume, dict[int, Any]]:
    """A volume read from a DICOM series that holds every attribute of the table, and the values planted."""
    affine = np.diag([-1.0, -1, 3, 1])
    data = np.arange(4 * 12 * 10, dtype=np.float32).reshape(4, 12, 10)
    place: dict[str, Any] = {"affine": affine, "spacing": spacing_of(affine)}
    ours = Volume(data=data, name="a", dtype="int16", provenance=SAYS, **place)
    values: dict[int, Any] = {}
    for k, path in enumerate(write_dicom(folder / "source", ours)):
        ds = dcmread(path)
        ds.ImageType, ds.SeriesNumber = ["ORIGINAL", "PRIMARY", "M"], 4
        for number, tag in enumerate(sorted(set().union(*table.values()))):
            kind = dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"
            if keyword_for_tag(tag) in NOT_HERE or tag >> 16 < 8:
                continue
            if kind == "SQ":
                item = Dataset()
                item.PatientName, item.Date, item.ReferencedSOPInstanceUID = WORD, "19770707", f"1.2.777.{number}"
                values[tag] = [item]
            else:
                values[tag] = f"1.2.777.{number}" if kind == "UI" else VALUES.get(kind.split(" ")[0], WORD)
            if kind in ("UI", "SQ") or kind.split(" ")[0] in VALUES:
                ds.add_new(tag, kind.split(" ")[0], values[tag])
            else:
                del values[tag]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.777.8.{k}"
        ds.private_block(0x0009, WORD, create=True).add_new(1, "LO", WORD)
        ds.save_as(path)
    (volume,), _ = read_dicoms(sorted((folder / "source").iterdir()))
    return replace(volume, provenance=SAYS), values


def kept(ds: Dataset, values: dict[int, Any]) -> set[int]:
    """The tags that hold, at any depth, what was planted in them."""
    return {int(e.tag) for e in ds.iterall() if e.tag in values and str(e.value) == str(values[e.tag])}


def still_changed(ds: Dataset) -> Iterator[str]:
    """What dicom-anonymizer would make otherwise, with the values that are there; it draws all identifiers anew."""
    from dicomanonymizer import anonymize_dataset

    after = Dataset()
    after.update(ds)
    after.file_meta = ds.file_meta
    anonymize_dataset(after)
    for element in ds:
        new = after.get_item(element.tag)
        if (
            element.VR not in ("UI", "SQ")
            and str(element.value)
            and (new is None or str(new.value) != str(element.value))
        ):
            yield f"{element.keyword} = {str(element.value)[:40]!r}"


if __name__ == "__main__":
    main()
