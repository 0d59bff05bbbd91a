"""References that were drawn as boxes are told."""

from cmb_autoseg.evaluation.inputs.box_labels import doubts_of_box_labels
from cmb_autoseg.files import write_text


def test_masks_beside_their_boxes_are_told(tmp_path):
    write_text(tmp_path / "boxesTr" / "p1_boxes.tsv", "slice\n")
    masks = [tmp_path / "labelsTr" / f"{name}.nii.gz" for name in ("p1", "p2")]
    (warning,) = doubts_of_box_labels(masks)
    assert warning.startswith("the labels of 1 of 2 cases are boxes, and their masks are the ellipses")
    assert doubts_of_box_labels(masks[1:]) == doubts_of_box_labels([]) == ()
    assert doubts_of_box_labels([tmp_path / "labelsTs" / "p1.nii.gz"]) == ()
