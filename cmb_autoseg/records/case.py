"""One subject-session and where its files are."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from cmb_autoseg.records.preparation import PrepSettings
from cmb_autoseg.records.record import Affine, Record
from cmb_autoseg.records.roles import SUSCEPTIBILITY_ROLES, Role

__all__ = ["BrainMaskSource", "Case", "ImageSource", "LabelSource", "TableRows"]


class ImageSource(Record):
    """One sequence of one case: its file or files, and which volume of them."""

    path: str
    """A file; `ARCHIVE!/MEMBER`; of several files the folder that messages name."""
    kind: Literal["volume", "dicom", "pictures"] = "volume"
    """One volume file; the files of a DICOM series; 2D pictures, one a slice."""
    files: tuple[str, ...] = ()
    """Of a DICOM series or of pictures, these in the order of slices; "" where a slice is absent."""
    echo: int | None = None
    part: Literal["magnitude", "phase"] | None = None
    """Of a DICOM series that holds both."""
    variable: str | None = None
    """Of a .mat file: the array's name; None where it holds one volume."""
    affine: Affine | None = None
    """The geometry of formats that hold none (.mat, pictures)."""
    copy_geometry_from: Role | None = None
    """Take the affine of this sequence instead of the file's own (same shape needed)."""


class TableRows(Record):
    """The rows of one case in a table of many."""

    column: str
    equals: str
    wide: bool = False
    """One row a case: x, y, z of one point after the other follow in its cells; else a row a point."""


class LabelSource(Record):
    """Where the microbleeds of one case are marked."""

    kind: Literal["mask", "points", "boxes", "reviewed"]
    """`reviewed`: somebody looked and found no microbleed; there is nothing to read."""
    path: str
    """As in `ImageSource`; of `reviewed` the file that says so, or what else does."""
    raters: dict[str, str] = Field(default_factory=dict)
    """Further readings: rater to path; `path` is then the first of them."""
    combine: Literal["union", "majority"] = "union"
    """A voxel counts when one reader marked it, or more than half of them."""
    reviewed: bool = False
    """The card also says that somebody looked and found none; lesions contradict that."""
    files: tuple[str, ...] = ()
    """Boxes in pictures: the file of each slice of the reference, in its order; "" where a slice has none."""
    pictures: tuple[str, ...] = ()
    """Boxes in pictures: the picture of each slice, by which COCO finds its boxes."""
    values: dict[str, int | str] = Field(default_factory=dict)
    """Mask: name of each label to its integer; boxes: to its class's number or name; `cmb` is what counts."""
    variable: str | None = None
    """Of a .mat file: the array of points, or of the mask."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Points: names of the columns that hold x, y, z and, if there is one, radius_mm."""
    sheet: str | None = None
    """Of an .xlsx file; None for the first."""
    rows: TableRows | None = None
    """Of a table of many cases: which rows are this case's."""
    space: Literal["ras_mm", "lps_mm", "voxel0", "voxel1"] = "ras_mm"
    radius_mm: float = 1.5
    format: Literal["yolo", "voc", "coco", "table"] | None = None
    """Of boxes."""
    grid: Role | None = None
    """The sequence on whose grid the mask, voxels or boxes are; None for the reference."""
    resample: Literal["refuse", "nearest"] = "refuse"
    """What to do with a mask whose grid is not its image's."""


class BrainMaskSource(Record):
    """A brain mask that comes with the cohort."""

    source: ImageSource
    grid: Role | None = None
    """The sequence on whose grid it is; None for the reference."""


class Case(Record):
    """One subject-session: its sequences, its label if it has one, and what the card says of it."""

    name: str
    cohort: str
    subject: str
    session: str | None = None
    images: dict[Role, ImageSource]
    label: LabelSource | None = None
    brain_mask: BrainMaskSource | None = None
    split: Literal["train", "test"] = "train"
    prep: PrepSettings = PrepSettings()
    meta: dict[str, str] = Field(default_factory=dict)
    """Further columns of cases.tsv (site, field_strength_t, free columns of the card)."""
    notes: dict[Role, str] = Field(default_factory=dict)
    """What was assumed, chosen or left out of a sequence when the files were sorted; warnings for the user."""
    disguise: Callable[[str], str] | None = Field(default=None, exclude=True, repr=False)
    """Of predictions with privacy.hash_ids: takes identifiers and folders out of a text. Never written."""

    def shown(self, text: str) -> str:
        """A text as it may be written and logged."""
        return text if self.disguise is None else self.disguise(text)

    def shown_file(self, role: Role) -> str:
        """What records call the file of a sequence: its name, of an archive with the member's place in it.

        Where people have pseudonyms it is the role alone, since names of files hold more than identifiers.
        """
        if self.disguise is not None:
            return role.value
        archive, separator, member = self.images[role].path.partition("!/")
        return f"{Path(archive).name}{separator}{member}"

    @property
    def reference_role(self) -> Role:
        """The sequence whose grid the case lives on: the card's, else the first susceptibility role it has."""
        if self.prep.reference in self.images:
            return self.prep.reference
        return next((role for role in SUSCEPTIBILITY_ROLES if role in self.images), next(iter(self.images)))
