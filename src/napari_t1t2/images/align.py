"""Where one scan of a head lies on another: rigid registration by mutual information, as SimpleITK does it.

Mattes mutual information (Mattes et al., 2003) from coarse to fine, by SimpleITK (Lowekamp et al., 2013). On four real
exams it comes within 0.5 mm of published transforms, which are affine, on average (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .head import Mask, head_masks
from .volume import Affine, Image, spacing_of

LEVELS = (6.0, 3.0, 0.5)  # mm of the voxels that are compared, coarse to fine; the last as they are
SMOOTH = (2.0, 1.0, 0.0)  # mm, sigma
BINS = 50
SAMPLES = 40_000  # voxels inside the head that are compared
ITERATIONS = (30, 120, 60)
FIRST, LAST = 2.0, 1e-3  # mm that voxels move in the first and last step
RADIUS = 80.0  # mm from the head's centre to its surface
TURN = 12.0  # degrees between the starts
SKEW = 1e-3  # of directions that are not at right angles
CLEARLY = 1.05  # times the information; real heads have 0.68 to 0.73 of it in a mirror, mirrored ones 1.37 to 1.48
THIN = 4  # slices; fewer show no volume


Level = tuple[Any, Any, Any, float, int]  # both scans, the fixed one's head, the share compared, iterations


@dataclass(frozen=True, eq=False)
class Scan:
    """A stack of slices (Z, Y, X) in [-1, 1], where it lies (X, Y, Z index to RAS+ mm), and where the head is."""

    data: Image
    affine: Affine
    head: Mask

    @classmethod
    def of(cls, data: Image, affine: Affine) -> Scan:
        """With the head found in it."""
        return cls(data, affine, head_masks(data))

    @property
    def centre(self) -> Affine:
        """The head's centre of mass in RAS+ mm."""
        at = np.append(np.argwhere(self.head).mean(axis=0)[::-1], 1.0)
        return (self.affine @ at)[:3]  # type: ignore[no-any-return]

    def mirrored(self) -> Scan:
        """The head seen in a mirror, left to right about its centre."""
        mirror = np.diag([-1.0, 1, 1, 1])
        mirror[0, 3] = 2 * self.centre[0]
        return Scan(self.data, mirror @ self.affine, self.head)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a point of one scan lies in another."""

    matrix: Affine  # (4, 4), RAS+ mm to RAS+ mm, rigid
    information: float  # that the two share at the level of the result: Mattes, in nats
    shift: float  # mm that the head's centre moves
    angle: float  # degrees

    @property
    def reach(self) -> float:
        """How far points at the head's surface move, in mm, at most."""
        return self.shift + float(np.radians(self.angle)) * RADIUS

    def describe(self) -> str:
        """The shift and the angle, for people."""
        return f"{self.shift:.1f} mm, {self.angle:.1f} degrees"


def align(fixed: Scan, moving: Scan) -> Alignment | None:
    """The rigid transform from points of `fixed` to those of `moving`; None where one of them is no volume.

    It starts where the headers say that the two lie, with the heads' centres upon each other, and turned from there
    about each axis; the best of these on the coarsest level is made finer.
    """
    if not (_is_volume(fixed) and _is_volume(moving)):
        return None
    levels = _levels(fixed, moving, len(LEVELS))
    matrix, _ = _best(fixed, levels[:1], [np.eye(4), *_starts(fixed, moving)])
    return _alignment(fixed, *_best(fixed, levels[1:], [matrix]))


def mirror_image(fixed: Scan, moving: Scan, found: Alignment) -> bool:
    """Whether the mirror image of `moving` fits better than it does itself: a header that takes left for right."""
    mirrored = moving.mirrored()
    _, as_it_is = _best(fixed, _levels(fixed, moving, 2)[1:], [found.matrix])
    levels = _levels(fixed, mirrored, 2)
    matrix, _ = _best(fixed, levels[:1], _starts(fixed, mirrored))
    return _best(fixed, levels[1:], [matrix])[1] > CLEARLY * as_it_is


def _starts(fixed: Scan, moving: Scan) -> list[Affine]:
    """The heads' centres upon each other, as they are and turned about each axis."""
    from scipy.spatial.transform import Rotation

    turns = [Rotation.identity(), *(Rotation.from_euler(a, s * TURN, degrees=True) for a in "xyz" for s in (-1, 1))]
    made = []
    for turn in turns:
        start: Affine = np.eye(4)
        start[:3, :3] = turn.as_matrix()
        start[:3, 3] = moving.centre - start[:3, :3] @ fixed.centre
        made.append(start)
    return made


def _is_volume(scan: Scan) -> bool:
    axes = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    square = np.allclose(axes.T @ axes, np.eye(3), atol=SKEW)  # SimpleITK has no sheared images
    return square and min(scan.data.shape) >= THIN and bool(scan.head.any())


def _alignment(fixed: Scan, matrix: Affine, information: float) -> Alignment:
    moved = matrix @ np.append(fixed.centre, 1.0)
    angle = np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))
    return Alignment(matrix, information, float(np.linalg.norm(moved[:3] - fixed.centre)), float(angle))


def _levels(fixed: Scan, moving: Scan, count: int) -> list[Level]:
    """From coarse to fine, what `_register` needs."""
    import SimpleITK as sitk

    ours, theirs = _as_itk(fixed.data, fixed.affine), _as_itk(moving.data, moving.affine)
    head = sitk.BinaryDilate(_as_itk(fixed.head.astype(np.uint8), fixed.affine), [4, 4, 1])
    made = []
    for mm, sigma, iterations in zip(LEVELS[:count], SMOOTH, ITERATIONS, strict=False):
        smooth = [sitk.SmoothingRecursiveGaussian(image, sigma) if sigma else image for image in (ours, theirs)]
        inside = _shrunk(head, mm)
        voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(inside)))
        share = min(1.0, SAMPLES / max(1, voxels))
        made.append((*(_shrunk(image, mm) for image in smooth), inside, share, iterations))
    return made


def _best(fixed: Scan, levels: list[Level], starts: list[Affine]) -> tuple[Affine, float]:
    """The transform near one of the starts with which the two share most, and how much that is."""
    return max((_register(fixed, levels, start) for start in starts), key=lambda made: made[1])


def _register(fixed: Scan, levels: list[Level], start: Affine) -> tuple[Affine, float]:
    import SimpleITK as sitk

    centre = fixed.centre
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, :3] @ centre + start[:3, 3] - centre).tolist())
    information = 0.0
    for ours, theirs, inside, share, iterations in levels:
        method = sitk.ImageRegistrationMethod()
        method.SetGlobalDefaultNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(inside)
        if share < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share, seed=1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            FIRST, LAST, iterations, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(ours, theirs)
        except RuntimeError:  # the two do not overlap
            return start, 0.0
        information = -method.GetMetricValue()
    matrix: Affine = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix, information


def _as_itk(data: Any, affine: Affine) -> Any:
    """As SimpleITK has images; its space may be RAS+ as well as LPS+, if only it is the same of all."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(data)
    z, y, x = spacing_of(affine)
    image.SetSpacing((x, y, z))
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / (x, y, z)).ravel().tolist())
    return image


def _shrunk(image: Any, mm: float) -> Any:
    """With voxels of about `mm` where they were smaller."""
    import SimpleITK as sitk

    return sitk.Shrink(image, [max(1, round(mm / side)) for side in image.GetSpacing()])
