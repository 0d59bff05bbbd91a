"""Microbleeds of one case, whatever marks them, on the grid on which they are marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cmb_autoseg.dataset_conversion.labels.boxes import read_boxes
from cmb_autoseg.dataset_conversion.labels.masks import read_mask, values_that_occur
from cmb_autoseg.dataset_conversion.labels.points import read_points
from cmb_autoseg.dataset_conversion.labels.raters import read_raters
from cmb_autoseg.dataset_conversion.labels.result import LabelResult
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource, Role

__all__ = ["no_lesion_warning", "read_label"]

KINDS: Mapping[str, Callable[[LabelSource, Volume], LabelResult]] = {
    "mask": read_mask,
    "points": read_points,
    "boxes": read_boxes,
}


def read_label(source: LabelSource, reference: Volume, grids: Mapping[Role, Volume] | None = None) -> LabelResult:
    """Read the microbleeds of one case.

    Args:
        source: the files and how they are to be understood.
        reference: the case's reference sequence as it came (own axes); only its grid is used.
        grids: the other sequences likewise, for marks that were made on one of them.

    Returns:
        On the reference's grid, or with the role on whose grid it is.

    Raises:
        InputError: unreadable file, value outside the map, point or box outside the volume; lesions
            in a case that the card calls read and free of them.
        GeometryError: a mask is on another grid and may not be resampled, or resampling would
            lose or merge a lesion.
    """
    if source.kind == "reviewed":
        return LabelResult(_empty(reference), 0, ("read, no microbleed (labels.no_cmb)",))
    grid, role = _grid(source, reference, grids or {})
    read = KINDS[source.kind]
    result = read_raters(source, grid, read) if source.raters else read(source, grid)
    if source.reviewed and result.n_lesions:
        raise InputError(
            f"{source.path}: marks {result.n_lesions} lesions, but labels.no_cmb says that this case has none; "
            "correct one of them"
        )
    return replace(result, grid=role)


def _empty(grid: Volume) -> Volume:
    return grid.with_data(np.zeros(grid.shape, dtype=np.uint8))


def _grid(source: LabelSource, reference: Volume, grids: Mapping[Role, Volume]) -> tuple[Volume, Role | None]:
    if source.grid is None:
        return reference, None
    if source.grid not in grids:
        raise InputError(f"{source.path}: marks lie on {source.grid}, which this case has not; check labels.cmb.grid")
    return grids[source.grid], source.grid


def no_lesion_warning(cohort: str, sources: Sequence[LabelSource]) -> str:
    """What to say of a cohort whose labels were all read and hold no lesion; reads its masks once more.

    Raises:
        InputError: a mask has become unreadable.
    """
    found = f"{cohort}: no lesion in any of {len(sources)} labelled cases"
    if all(source.kind == "reviewed" for source in sources):
        return f"{found}: labels.no_cmb says so of all of them"
    masks = [source for source in sources if source.kind == "mask"]
    if not masks:
        kind = "boxes" if any(source.kind == "boxes" for source in sources) else "points"
        return f"{found}; if there should be some, check labels.cmb.path and the files of {kind}"
    others = values_that_occur(masks)
    if not others:
        return f"{found}: the masks that can be used hold nothing but 0; if that cannot be, check labels.cmb.path"
    occurring = f" ({', '.join(f'{value:g}' for value in others)} occur)" if len(others) > 1 else ""
    return f"{found}; if microbleeds have another value in the masks{occurring}, write values: {{cmb: {others[0]:g}}}"
