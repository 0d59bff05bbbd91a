"""What one side of a case consists of: files before they are read, lesions or voxels afterwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.rows import Row
from cmb_autoseg.evaluation.matching.lesion_set import Kind, LesionSet
from cmb_autoseg.geometry import Grid, Volume, canonical_grid

__all__ = ["SPACES", "CaseFiles", "FileKind", "ListGrid", "LoadedSide", "SideFile", "Space"]

Space = Literal["ras_mm", "lps_mm", "voxel0", "voxel1"]
SPACES: tuple[Space, ...] = ("ras_mm", "lps_mm", "voxel0", "voxel1")
"""Of coordinates in a list: millimetres to the right, front and top; to the left, back and top; voxels of the stored
grid, counted from 0; the same, counted from 1."""


FileKind = Literal["mask", "points", "boxes", "list"]
"""`list` for points or boxes, whichever the columns say."""


@dataclass(frozen=True)
class SideFile:
    """What holds the lesions of one side of one case; chosen by its name, not yet read."""

    path: Path
    kind: FileKind
    rows: tuple[Row, ...] | None = None
    """Of a table of all cases, those of this case; None where the file is of this case alone."""
    columns: tuple[str, ...] = ()
    """Of a table of all cases."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case that is to be scored."""

    name: str
    predicted: SideFile
    reference: SideFile
    probability: SideFile | None = None
    """Map of the prediction's probabilities; the prediction itself where there is no mask."""
    regions: Path | None = None
    """Map of brain regions."""


@dataclass(frozen=True)
class ListGrid:
    """The voxels that a list of points or boxes counts in."""

    affine: NDArray[np.float64]
    """(4, 4): indices of the stored axes to RAS millimetres."""
    shape: tuple[int, ...] | None
    """Of the stored axes; None where only the spacing is known."""
    name: str
    """For messages: the file."""
    planar: bool = False
    """Whether the distance of slices is not known."""

    @property
    def canonical_affine(self) -> NDArray[np.float64]:
        """(4, 4): of the axes that masks are turned to, see `geometry.to_canonical`."""
        return self.affine if self.shape is None else canonical_grid(self.shape, self.affine)[1]

    @property
    def canonical_shape(self) -> tuple[int, int, int] | None:
        return None if self.shape is None else canonical_grid(self.shape, self.affine)[0]

    @classmethod
    def of(cls, grid: Grid, name: str) -> "ListGrid":
        return cls(grid[1], grid[0], name)

    @classmethod
    def of_spacing(cls, spacing_mm: tuple[float, ...]) -> "ListGrid":
        """Axes along the body's, the first voxel's centre at the origin; slices of unknown distance are 1 mm apart.

        Raises:
            InputError: neither two sizes nor three.
        """
        if len(spacing_mm) not in (2, 3):
            raise InputError(
                f"--spacing: found {len(spacing_mm)} sizes, expected x, y and z of a voxel in mm, or x and y of a pixel"
            )
        sizes = (*spacing_mm, 1.0)[:3]
        name = f"a grid of {' x '.join(f'{size:g}' for size in spacing_mm)} mm"
        return cls(np.diag([*sizes, 1.0]), None, name, planar=len(spacing_mm) == 2)


@dataclass(frozen=True)
class LoadedSide:
    """One side of a case, read: voxels of a mask or probability map, or the lesions of a list."""

    kind: Kind
    volume: Volume | None = None
    """In canonical axes; None of a list."""
    lesions: LesionSet | None = None
    """None of a mask, whose lesions hang on the rule for them."""
