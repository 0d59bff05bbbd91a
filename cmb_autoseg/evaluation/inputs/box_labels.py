"""References that were drawn as boxes, as `cmb_convert` keeps them: their masks are ellipses, not outlines."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["doubts_of_box_labels"]


def doubts_of_box_labels(masks: Sequence[Path]) -> tuple[str, ...]:
    """A warning for figures of voxels, where reference masks lie in a dataset that has the boxes they were made of.

    Args:
        masks: such as `labelsTr/CASE.nii.gz`, whose box is `boxesTr/CASE_boxes.tsv` beside that folder.
    """
    n_boxes = sum(_boxes_of(mask).is_file() for mask in masks)
    if not n_boxes:
        return ()
    return (
        f"the labels of {n_boxes} of {len(masks)} cases are boxes, and their masks are the ellipses in these: voxel "
        "and surface figures are of ellipses, not of outlines; judge by lesions and counts",
    )


def _boxes_of(mask: Path) -> Path:
    part = mask.parent.name.removeprefix("labels")
    return mask.parent.with_name(f"boxes{part}") / f"{mask.name.partition('.nii')[0]}_boxes.tsv"
