"""The files of one case, read and checked against one another."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.boxes import has_boxes, has_slice_boxes, read_boxes
from cmb_autoseg.evaluation.inputs.images import image_of
from cmb_autoseg.evaluation.inputs.lesion_lists import SCORE_COLUMNS
from cmb_autoseg.evaluation.inputs.masks import is_plain_mask, read_prediction, read_probability, read_reference
from cmb_autoseg.evaluation.inputs.points import read_points
from cmb_autoseg.evaluation.inputs.regions import read_regions
from cmb_autoseg.evaluation.inputs.rows import Rows, first_of, read_rows
from cmb_autoseg.evaluation.inputs.sides import CaseFiles, ListGrid, LoadedSide, SideFile, Space
from cmb_autoseg.geometry import Volume, check_same_grid, read_grid, read_volume

__all__ = ["ListSettings", "LoadedCase", "doubts_of_grids", "load_case", "refuse_swapped_values"]

CURE = "predict on the grid of the reference, or resample the prediction to it (nearest neighbor for masks)"


@dataclass(frozen=True)
class ListSettings:
    """What lists of points and boxes do not say themselves."""

    space: Space | None = None
    """Of `x y z`, and of boxes without `_mm`."""
    spacing_mm: tuple[float, ...] | None = None
    """Of the voxels that a list counts in, where no mask and no image of the case tells; two or three sizes."""
    images: Path | None = None
    """Folder of the scans, in whose voxels a list counts where no mask of the case tells."""


@dataclass(frozen=True)
class LoadedCase:
    """One case, read; all volumes are on one grid in canonical axes."""

    name: str
    predicted: LoadedSide
    """`volume`: float32 within 0..1, a mask or a probability map."""
    reference: LoadedSide
    """`volume`: uint8, 0 and 1."""
    probability: Volume | None
    """float32 within 0..1; the predicted volume itself where that is a map; None where nothing is known of it."""
    regions: Volume | None
    """See `regions.read_regions`."""


def load_case(files: CaseFiles, lists: ListSettings | None = None) -> LoadedCase:
    """Read both sides of a case.

    Args:
        files: as `find_cases` gives them.
        lists: for points and boxes.

    Raises:
        InputError: an unreadable file, or content that is not legal; names case or file.
        GeometryError: volumes of the case are not on one grid.
    """
    lists = lists or ListSettings()
    grid = _grid(files, lists)
    reference = _load_side(files.name, files.reference, True, grid, lists)
    predicted = _load_side(files.name, files.predicted, False, grid, lists)
    if predicted.volume is not None and reference.volume is not None:
        check_same_grid(predicted.volume, reference.volume, CURE)
    volume = predicted.volume if predicted.volume is not None else reference.volume
    regions = None if files.regions is None else read_regions(files.regions, volume)
    return LoadedCase(files.name, predicted, reference, _probability(files, predicted.volume), regions)


def refuse_swapped_values(files: CaseFiles) -> None:
    """Look into one case for a prediction that was given as reference, and the other way round.

    Raises:
        InputError: the reference holds probabilities or scores, the prediction none. Files that cannot be read say
            nothing here; their case will fail by them.
    """
    try:
        what = _values_of_predictions(files)
    except InputError:
        return
    if what is not None:
        raise InputError(
            f"-p and --reference look swapped: {files.reference.path} holds {what}, {files.predicted.path} does not; "
            "exchange them"
        )


def _values_of_predictions(files: CaseFiles) -> str | None:
    """What the reference has and the prediction lacks, though predictions have it and references do not."""
    if "mask" not in (files.reference.kind, files.predicted.kind):
        swapped = _has_scores(files.reference) is True and _has_scores(files.predicted) is False
        return "scores" if swapped else None
    if not files.reference.kind == files.predicted.kind == "mask" or files.probability is not None:
        return None
    # The prediction is read only where the reference is no mask.
    swapped = not is_plain_mask(read_volume(files.reference.path)) and is_plain_mask(read_volume(files.predicted.path))
    return "probabilities" if swapped else None


def _has_scores(side: SideFile) -> bool | None:
    """None of an empty list."""
    columns = _rows(side).columns
    return first_of(columns, SCORE_COLUMNS) is not None if columns else None


def _grid(files: CaseFiles, lists: ListSettings) -> ListGrid | None:
    """Whose voxels a list counts in, from a header alone."""
    for side in (files.reference, files.predicted):
        if side.kind == "mask":
            return ListGrid.of(read_grid(side.path), str(side.path))
    scan = image_of(files, lists.images)
    # Lists in millimetres need no grid, and may be of people whose scan is drawn in another space.
    if scan is not None and any(_in_voxels(_rows(side), lists) for side in (files.reference, files.predicted)):
        return ListGrid.of(read_grid(scan), str(scan))
    return None if lists.spacing_mm is None else ListGrid.of_spacing(lists.spacing_mm)


def _in_voxels(rows: Rows, lists: ListSettings) -> bool:
    """Whether a list counts in voxels, by its columns or else by what was told of it."""
    if not rows.columns or {"x_mm", "x_min_mm"} & {*rows.columns}:
        return False
    return has_slice_boxes(rows.columns) or lists.space in ("voxel0", "voxel1")


def doubts_of_grids(cases: Sequence[CaseFiles], lists: ListSettings) -> tuple[str, ...]:
    """A warning where boxes of slices are scored without anything that tells the size of their voxels.

    Args:
        cases: as `find_cases` gives them; tables that cannot be read say nothing here.
        lists: as for `load_case`.
    """
    if lists.spacing_mm is not None:
        return ()
    n_unknown = sum(_has_unknown_grid(files, lists) for files in cases)
    if not n_unknown:
        return ()
    which = "" if n_unknown == len(cases) else f" for {n_unknown} of {len(cases)} cases"
    return (
        f"no grid given{which}: 1 mm voxels are assumed, figures in mm are of that; give --spacing, or --images with "
        "the scans",
    )


def _has_unknown_grid(files: CaseFiles, lists: ListSettings) -> bool:
    sides = (files.reference, files.predicted)
    if any(side.kind == "mask" for side in sides) or image_of(files, lists.images) is not None:
        return False
    with suppress(InputError):
        return any(_in_voxels(_rows(side), lists) for side in sides)
    return False


def _load_side(case: str, side: SideFile, is_reference: bool, grid: ListGrid | None, lists: ListSettings) -> LoadedSide:
    if side.kind == "mask":
        read = read_reference if is_reference else read_prediction
        return LoadedSide("mask", volume=read(case, side.path))
    rows = _rows(side)
    # A list without columns holds no lesion; empty boxes fit every rule of matching, empty points not.
    as_boxes = side.kind == "boxes" or (side.kind == "list" and (has_boxes(rows.columns) or not rows.columns))
    if as_boxes:
        return LoadedSide("boxes", lesions=read_boxes(rows, lists.space, grid))
    return LoadedSide("points", lesions=read_points(rows, lists.space, grid))


def _rows(side: SideFile) -> Rows:
    return read_rows(side.path) if side.rows is None else Rows(side.path, side.columns, side.rows)


def _probability(files: CaseFiles, predicted: Volume | None) -> Volume | None:
    if predicted is None:
        return None
    beside: Path | None = None if files.probability is None else files.probability.path
    if beside is not None and beside != files.predicted.path:
        return read_probability(files.name, beside, predicted)
    return predicted if beside is not None or not is_plain_mask(predicted) else None
