"""The demo heads. Everything here is simulated: no image shows a person who was scanned.

T1 is the MNI152 template (ICBM 2009a, Fonov et al. 2011, skull-stripped, 1 mm) that nilearn's wheel carries. T2 is
what a spin echo of the template's tissues would give. A subject is the template under a random smooth deformation,
a receive-coil shading that both its contrasts share, and Rician noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import naming
from .errors import Refusal
from .images.plane import WORLD

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
LayerData = tuple[Pixels, dict[str, Any], str]

SPACING = 1.5  # mm, along every axis of a subject
ORIGIN = (-98.0, -134.0, -72.0)  # mm to the right, front and top of MNI space: where the template's first voxel lies
ROWS, COLUMNS = 144, 128
PLANES = np.arange(52, 131, 6)  # mm above the template's lowest plane: from the pons to near the crown
T1_SUBJECTS, T2_SUBJECTS, HELD_OUT = (1, 2, 3), (4, 5, 6), 7
NOISE = 0.015  # standard deviation in each quadrature channel; the brightest tissue is 1
HEADROOM = 1.25  # grey value 255 stands for this signal, so that shading and noise do not clip


@dataclass(frozen=True)
class DemoHeads:
    """Where `write_heads` put its PNG slices. The held-out folders hold pairs: one file name in both."""

    t1_folder: Path
    t2_folder: Path
    held_out_t1: Path
    held_out_t2: Path


def write_heads(folder: Path, *, seed: int = 0) -> DemoHeads:
    """Write unpaired T1 and simulated T2 slices of different subjects, and pairs of one more to score against.

    Files of the same names are overwritten, others left alone. Raises `Refusal` where nilearn is missing.
    """
    heads = DemoHeads(folder / "T1", folder / "T2", folder / "held-out" / "T1", folder / "held-out" / "T2")
    template = load_template()
    for subject in (*T1_SUBJECTS, *T2_SUBJECTS, HELD_OUT):
        t1, t2 = scan(template, PLANES, subject=subject, seed=seed)
        if subject in T1_SUBJECTS:
            _write(t1, heads.t1_folder, f"sub-{subject:02d}_T1", "T1")
        elif subject in T2_SUBJECTS:
            _write(t2, heads.t2_folder, f"sub-{subject:02d}_T2", "T2")
        else:
            _write(t1, heads.held_out_t1, f"sub-{subject:02d}", "T1")
            _write(t2, heads.held_out_t2, f"sub-{subject:02d}", "T2")
    return heads


def sample_heads() -> list[LayerData]:
    """Both contrasts of the held-out subject as whole (Z, Y, X) volumes: the sample data napari opens."""
    template = load_template()
    planes = np.arange(0.0, template.shape[3], SPACING)
    t1, t2 = scan(template, planes, subject=HELD_OUT, seed=0)
    x, y, z = (axis[0] + start for axis, start in zip(display_axes(template.shape[1:], planes), ORIGIN, strict=True))
    return [_layer(stack, contrast, (z, -y, -x)) for stack, contrast in ((t1, "T1"), (t2, "T2"))]


def load_template() -> Floats:
    """The template's T1 and simulated T2, (2, X, Y, Z) at 1 mm, X to the right, Y to the front, Z up; brightest is 1.

    Raises `Refusal` where nilearn, whose wheel carries the template, is missing.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise Refusal(
            "The sample heads are made from the MNI152 template, which comes with nilearn, and nilearn cannot be "
            f'imported ({error}). Install it with: pip install "napari-t1t2[demo]"'
        ) from error
    t1, grey, white = (
        load(resolution=1).get_fdata(dtype=np.float32)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    return np.stack([t1, simulate_t2(grey, white, brain=t1 > 0)])


def simulate_t2(grey: Floats, white: Floats, brain: npt.NDArray[np.bool_]) -> Floats:
    """The T2-weighted signal of a mixture of grey and white matter; what is left of the brain is CSF, of signal 1.

    Relaxation times at 1.5 T and proton densities are those of the BrainWeb phantom (Collins et al. 1998, IEEE TMI
    17:463; Kwan et al. 1999, IEEE TMI 18:1085).
    """
    fluid = spin_echo(density=1.0, t1=2569.0, t2=329.0)
    of_grey = spin_echo(density=0.86, t1=833.0, t2=83.0) / fluid
    of_white = spin_echo(density=0.77, t1=500.0, t2=70.0) / fluid
    signal = grey * of_grey + white * of_white + np.clip(1 - grey - white, 0, 1)
    return np.where(brain, signal, 0).astype(np.float32)


def spin_echo(*, density: float, t1: float, t2: float, tr: float = 4000.0, te: float = 90.0) -> float:
    """S = PD (1 - exp(-TR/T1)) exp(-TE/T2), times in ms."""
    return float(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))


def scan(template: Floats, planes: npt.ArrayLike, *, subject: int, seed: int) -> Pixels:
    """Both contrasts of one subject, (2, Z, Y, X), in `planes`, mm above the template's lowest one.

    Radiological display: the top row is anterior, the first column the subject's right. The subject's anatomy and
    shading do not depend on the planes; its noise does.
    """
    from scipy.ndimage import map_coordinates
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng([seed, subject])
    axes = display_axes(template.shape[1:], planes)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    centre = (np.array(template.shape[1:]).reshape(3, 1, 1, 1) - 1) / 2

    pose = Rotation.from_euler("xyz", random.normal(0, 2, 3), degrees=True).as_matrix() * random.normal(1, 0.03, 3)
    bend = 3 * np.stack([smooth_field(random, axes, every=32) for _ in range(3)])  # mm, which are voxels here
    shading = np.exp(0.1 * smooth_field(random, axes, every=70))

    source = np.tensordot(pose, grid - centre, axes=1) + centre + bend
    clean = np.stack([map_coordinates(contrast, source, order=1, output=np.float32) for contrast in template])
    real, imaginary = random.normal(0, NOISE, (2, *clean.shape))
    signal = np.hypot(clean * shading + real, imaginary)  # a magnitude: hence Rician, not Gaussian, noise
    pixels = np.clip(np.rint(signal * (255 / HEADROOM)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 3, 2, 1))


def display_axes(shape: tuple[int, ...], planes: npt.ArrayLike) -> tuple[Doubles, Doubles, Doubles]:
    """Where columns, rows and planes of a radiological display lie in a 1 mm (X, Y, Z) array of RAS+ axes."""
    columns = (shape[0] - 1) / 2 - SPACING * (np.arange(COLUMNS, dtype=np.float64) - (COLUMNS - 1) / 2)
    rows = (shape[1] - 1) / 2 - SPACING * (np.arange(ROWS, dtype=np.float64) - (ROWS - 1) / 2)
    return columns, rows, np.asarray(planes, dtype=np.float64)


def smooth_field(random: np.random.Generator, axes: tuple[Doubles, Doubles, Doubles], *, every: float) -> Doubles:
    """A random (X, Y, Z) field of about unit spread: a cubic B-spline over knots `every` mm (Rueckert et al. 1999)."""
    from scipy.interpolate import BSpline

    # The knots span any template whatever the planes are, so that one seed is one field.
    knots = every * np.arange(-3, np.ceil(256 / every) + 4)
    weights = [BSpline.design_matrix(axis, knots, 3).toarray() for axis in axes]
    heights = 3 * random.standard_normal((knots.size - 4,) * 3)  # the spline's averaging takes two thirds of the spread
    field: Doubles = np.einsum("xi,yj,zk,ijk->xyz", *weights, heights, optimize=True)
    return field


def _write(slices: Pixels, folder: Path, stem: str, contrast: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("Description", f"Simulated {contrast} of a head: the MNI152 template, deformed. No real subject.")
    for plane, pixels in zip(PLANES, slices, strict=True):
        path = folder / f"{stem}_z{plane:03d}.png"
        with naming(path):
            Image.fromarray(pixels).save(path, pnginfo=text)


def _layer(stack: Pixels, contrast: str, first: tuple[float, float, float]) -> LayerData:
    """`first` is where the first voxel lies, (superior, posterior, left) in mm."""
    metadata = {
        "contrast": contrast,
        "simulated": True,
        "subject": f"sub-{HELD_OUT:02d}",
        "source": "MNI152 template (ICBM 2009a), deformed; T2 from its tissue maps",
        "world": WORLD,
        "stored_towards": "SPL",
        "dtype": stack.dtype.name,
    }
    about = {
        "name": f"{contrast} (simulated head)",
        "scale": (SPACING,) * 3,
        "translate": first,
        "units": ("mm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "contrast_limits": (0, 255),
        "colormap": "gray",
        "metadata": metadata,
    }
    return stack, about, "image"
