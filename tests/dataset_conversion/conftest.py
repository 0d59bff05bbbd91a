"""Small cohorts on disk: brains of noise with dark balls in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SHAPE = (20, 24, 14)
SPACING_MM = (0.9, 0.9, 2.0)
Ball = tuple[tuple[int, int, int], float]


def affine_of(spacing_mm: Sequence[float] = SPACING_MM, origin_mm: Sequence[float] = (-9.0, -11.0, -14.0)):
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return affine


def scan(seed: int, shape=SHAPE) -> np.ndarray:
    """A bright block of noise with a zero border of two voxels, as a stripped scan has."""
    data = np.zeros(shape, dtype=np.float32)
    inner = tuple(slice(2, size - 2) for size in shape)
    data[inner] = 100 + 10 * np.random.default_rng(seed).standard_normal(data[inner].shape)
    return data


def ball_mask(balls: Sequence[Ball], shape=SHAPE) -> np.ndarray:
    """Balls with centre and radius in voxels."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mask = np.zeros(shape, dtype=np.uint8)
    for centre, radius in balls:
        mask[np.linalg.norm(grid - centre, axis=-1) <= radius] = 1
    return mask


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine_of() if affine is None else affine), path)
    return path


TWO_BALLS: tuple[Ball, ...] = (((6, 7, 5), 1.0), ((13, 15, 8), 1.5))

CARD = """\
schema: 1
name: tiny
root: .
images:
  T2S: {role: gre_mag, path: "{sub:sub-\\\\d{3}}/{sub}_T2S.nii.gz"}
  T1: {role: t1, optional: true, copy_geometry_from: T2S, path: "{sub:sub-\\\\d{3}}/{sub}_T1.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub:sub-\\\\d{3}}/{sub}_CMB.nii.gz", values: {cmb: 1}, optional: true}
prep: {brain: already_masked}
"""


@pytest.fixture
def write_card(tmp_path: Path) -> Callable[..., str]:
    """Write a card beside the scans; returns its path as a command's argument."""

    def write(text: str = CARD, name: str = "card.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def tiny_cohort(tmp_path: Path) -> Path:
    """Three subjects: 101 with two lesions and T1, 102 read without lesion, 103 unlabelled."""
    for number in (101, 102, 103):
        folder = tmp_path / f"sub-{number}"
        save(folder / f"sub-{number}_T2S.nii.gz", scan(number))
    save(tmp_path / "sub-101/sub-101_T1.nii.gz", scan(7), affine_of(origin_mm=(0, 0, 0)))
    save(tmp_path / "sub-101/sub-101_CMB.nii.gz", ball_mask(TWO_BALLS))
    save(tmp_path / "sub-102/sub-102_CMB.nii.gz", ball_mask(()))
    return tmp_path
