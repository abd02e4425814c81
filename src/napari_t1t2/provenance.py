"""What a synthetic image says of itself, in a layer and in every kind of file: the only list of these keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

NOTICE = "Synthetic image. Not for diagnosis."
END = " - not for diagnosis"  # of a stamp
Map = Literal["expected error", "interval"]  # titles of what is made beside a synthetic image: see below
Kind = Literal["image", "expected error", "interval", "difference", "comparison"]
MAPS: dict[Map, str] = {  # their one home: files, layers, flags and marks are called by these titles
    "expected error": "holds the error to expect of an image",
    "interval": "holds half the width of the intervals about an image",
}
REFUSED: dict[str, str] = {  # what no image is: to be translated, scored, trained on or calibrated with
    **{title: f"{what}: give the image itself." for title, what in MAPS.items()},
    "difference": "holds the difference of two images: give one of these.",
    "comparison": "shows two images in one picture: give one of these.",
}
SIDECAR = {  # names in a BIDS sidecar that are not the key's own words
    "meaning": "Description",
    "unfamiliar": "UnfamiliarSource",
    "seen_in_training": "SourceSeenInTraining",
    "source": "Sources",
    "model_sha256": "ModelSHA256",
}
GENERATED_BY = ("version", "model", "model_sha256", "step")  # which BIDS puts together


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Of one synthetic image. What is None is not known, or does not apply, and is not written."""

    kind: Kind = "image"  # another kind, of a newer version, is kept, and is no image
    contrast: str = ""
    notice: str = NOTICE
    model: str | None = None  # the folder of its run and its file; a longer path may name a person
    model_sha256: str | None = None
    step: int | None = None  # of training
    general_model: bool | None = None  # made to fit any head, not trained on the user's images
    source: str | None = None  # what it was made from
    version: str | None = None  # of napari-t1t2
    precision: str | None = None  # of the convolutions, where it is not float32
    planes: str | None = None  # "three" where the results of three planes were averaged
    volume_number: int | None = None  # that was asked for of 4D files, where it is not 0
    unfamiliar: bool | None = None  # whether the source looks unlike the training images
    seen_in_training: bool | None = None  # whether a slice of the source is, value for value, one of the training
    source_synthetic: bool | None = None
    complete: bool | None = None  # False while a layer fills, and if it was saved before it was full
    meaning: str | None = None  # of the numbers of an expected error, and what follows
    calibrated: bool | None = None
    ensemble: list[str] | None = None  # SHA-256 of the models beside `model`

    @classmethod
    def from_dict(cls, said: Any) -> Provenance | None:
        """What `to_dict` gave, among other keys, or what earlier versions wrote; None where it is nothing of ours."""
        if not isinstance(said, Mapping) or not said.get("synthetic"):
            return None
        known = {f.name: said[f.name] for f in fields(cls) if f.name in said}
        known["contrast"] = contrast = str(said.get("contrast") or "")
        if known.get("kind", "image") in ("image", "expected error"):  # once an interval was an expected error, too
            title = next((one for one in MAPS if contrast.startswith(f"{one} of ")), None)
            errors = "expected error" if "calibrated" in said else known.get("kind", "image")
            known["kind"] = "difference" if contrast == "difference" else title or errors
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """As JSON and a layer's metadata have it: the keys, and `synthetic`, which all versions know."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"synthetic": True, **{key: value for key, value in own.items() if value is not None}}

    @classmethod
    def from_json(cls, text: str | bytes) -> Provenance | None:
        """From the description of a PNG or TIFF, the extension of a NIfTI, or a private tag; None if not ours."""
        try:
            return cls.from_dict(json.loads(text))
        except ValueError:
            return None

    def to_json(self) -> str:
        """In ASCII, which TIFF asks for."""
        return json.dumps(self.to_dict(), default=str)

    @classmethod
    def from_sidecar(cls, said: Any) -> Provenance | None:
        """From what `to_sidecar` gave; None where another program wrote it."""
        if not isinstance(said, Mapping) or said.get("SyntheticImage") is not True:
            return None
        made_by: Mapping[str, Any] = next(
            (by for by in said.get("GeneratedBy") or () if by.get("Name") == "napari-t1t2"), {}
        )
        flat = {**said, **made_by, "Sources": ", ".join(said.get("Sources") or ()) or None}
        if str(said.get("Description")).endswith(END):  # the stamp, which stands where an image has no other meaning
            flat["Description"] = None
        keys = {f.name: _in_sidecar(f.name) for f in fields(cls)}
        known = {key: flat[name] for key, name in keys.items() if flat.get(name) is not None}
        return cls.from_dict({"synthetic": True, **known})

    def to_sidecar(self) -> dict[str, Any]:
        """As BIDS has it for images that a program derived."""
        said = {key: value for key, value in self.to_dict().items() if key != "synthetic"}
        made_by = {_in_sidecar(key): said.pop(key) for key in GENERATED_BY if key in said}
        said["source"] = [self.source] if self.source else []
        named = {_in_sidecar(key): value for key, value in said.items()}
        named.setdefault("Description", self.stamp(200))
        return {"SyntheticImage": True} | named | {"GeneratedBy": [{"Name": "napari-t1t2"} | made_by]}

    def stamp(self, most: int) -> str:
        """A line of at most so many characters, for a header that people read."""
        begin, end = "SYNTHETIC " if self.complete is not False else "UNFINISHED SYNTHETIC ", END
        return f"{begin}{self.contrast[: most - len(begin) - len(end)]}{end}"

    def mark(self, name: str) -> str:
        """The name with what the image is behind it, unless the name says so itself."""
        what = self.kind if self.kind != "image" else "synthetic"
        marks = [mark for mark in (what, "unfinished" if self.complete is False else "") if mark not in name.casefold()]
        return f"{name} ({', '.join(marks)})" if marks else name

    def why_not(self) -> str | None:
        """The end of a sentence where this is no image to go on with, its subject the image's name."""
        if self.kind != "image":
            return REFUSED.get(self.kind, "holds no image: give the image itself.")
        return "is an unfinished synthetic image: make it again, to its end." if self.complete is False else None


def _in_sidecar(key: str) -> str:
    """`source_synthetic` as `SourceSynthetic`."""
    return SIDECAR.get(key) or "".join(word[:1].upper() + word[1:] for word in key.split("_"))
