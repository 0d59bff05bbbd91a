"""ANTs, called so that it is repeatable, silent and leaves nothing behind.

With several threads ANTs sums in an order that differs from run to run, and two registrations of one
pair end millimetres apart. ITK, on which it stands, reads its number of threads when it is first
used, so the variable is set before; where another library had ANTs running already, a process of our
own is started.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Picture", "Stage", "align", "ants_image", "ras_matrix"]

THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS to ITK's axes and back."""
BINS = 32
SEED = 1


@dataclass(frozen=True)
class Stage:
    """One transform and its levels, coarse to fine."""

    transform: str
    """`Rigid` or `Affine`."""
    iterations: tuple[int, ...]
    """At most, at each level; it stops earlier where the metric no longer changes."""
    shrink: tuple[int, ...]
    """Voxels along each axis that are taken as one."""
    sigma_mm: tuple[float, ...]
    """Of the blur before."""
    sampling: float = 0.25
    """Share of the voxels that the metric looks at, on a regular pattern."""
    step: float = 0.1


@dataclass(frozen=True)
class Picture:
    """float32 voxels on a grid without shear; `affine` maps voxels to RAS millimetres."""

    data: NDArray[np.float32]
    affine: NDArray[np.float64]


def align(fixed: Picture, moving: Picture, mask: NDArray[np.bool_], stages: Sequence[Stage]) -> NDArray[np.float64]:
    """Register with Mattes' mutual information, starting from the scanner coordinates.

    Args:
        fixed: its grid is where the metric is computed.
        moving: another scan of the same head.
        mask: fixed's voxels that count.
        stages: each starts where the one before ended.

    Returns:
        (4, 4): RAS mm of `fixed` to RAS mm of `moving`.

    Raises:
        RuntimeError: ANTs gives up, as it does where the two do not overlap.
    """
    if _only_ours():
        return _align(fixed, moving, mask, stages)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_align, fixed, moving, mask, stages).result()


_ours = False
"""Whether ANTs was first loaded by `_align`, in this process, with one thread."""


def _only_ours() -> bool:
    return _ours or "ants" not in sys.modules or os.environ.get(THREADS) == "1"


def _align(fixed: Picture, moving: Picture, mask: NDArray[np.bool_], stages: Sequence[Stage]) -> NDArray[np.float64]:
    global _ours
    with _one_thread(), tempfile.TemporaryDirectory(prefix="cmb_autoseg_") as folder, _silent(Path(folder)):
        import ants
        from ants.internal import get_pointer_string

        images = [ants_image(picture.data, picture.affine) for picture in (fixed, moving)]
        region = ants_image(mask.astype(np.uint8), fixed.affine)
        _ours = True
        names = [get_pointer_string(image) for image in images]
        prefix = str(Path(folder) / "to_moving_")
        arguments = _arguments(names, get_pointer_string(region), stages, prefix)
        ants.registration(fixed=arguments, moving=None)
        return ras_matrix(ants.read_transform(f"{prefix}0GenericAffine.mat"))


def _arguments(names: list[str], region: str, stages: Sequence[Stage], prefix: str) -> list[str]:
    """The command line of `antsRegistration`."""
    pair = ",".join(names)
    arguments = ["-d", "3"]
    for stage in stages:
        sigmas = "x".join(f"{sigma:g}" for sigma in stage.sigma_mm)
        arguments += ["-t", f"{stage.transform}[{stage.step:g}]"]
        arguments += ["-m", f"Mattes[{pair},1,{BINS},Regular,{stage.sampling:g}]"]
        arguments += ["-c", f"[{'x'.join(map(str, stage.iterations))},1e-6,10]"]
        arguments += ["-s", f"{sigmas}mm", "-f", "x".join(map(str, stage.shrink))]
        arguments += ["-x", f"[{region},NA]"]
    return [*arguments, "-o", prefix, "--random-seed", str(SEED), "--float", "1", "--write-composite-transform", "0"]


def ants_image(data: NDArray[np.generic], affine: NDArray[np.float64]) -> Any:
    """An image of ANTs from voxels (i, j, k) and their affine to RAS millimetres."""
    import ants

    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(data),
        origin=tuple(lps[:3, 3].tolist()),
        spacing=tuple(spacing.tolist()),
        direction=lps[:3, :3] / spacing,
    )


def ras_matrix(transform: Any) -> NDArray[np.float64]:
    """ITK's matrix, translation and centre in LPS as one matrix in RAS."""
    parameters, centre = np.array(transform.parameters, dtype=np.float64), np.array(transform.fixed_parameters)
    lps = np.eye(4)
    lps[:3, :3] = parameters[:9].reshape(3, 3)
    lps[:3, 3] = parameters[9:] + centre - lps[:3, :3] @ centre
    ras: NDArray[np.float64] = LPS @ lps @ LPS
    return ras


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


@contextmanager
def _silent(folder: Path) -> Iterator[None]:
    """Send what C++ writes to standard error into a file: Python cannot catch it otherwise."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with (folder / "messages").open("wb") as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
