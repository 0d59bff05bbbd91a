"""Which files a case is made of: one that changes must lead to a new conversion."""

from cmb_autoseg.dataset_conversion.case_conversion import source_paths
from cmb_autoseg.records import BrainMaskSource, Case, ImageSource, LabelSource, Role

HEADER = "NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = {}.raw\n"


def test_voxels_beside_a_header_are_sources_of_scans_labels_and_masks(tmp_path):
    for name in ("swi", "cmb", "again", "brain"):
        (tmp_path / f"{name}.mhd").write_text(HEADER.format(name))
        (tmp_path / f"{name}.raw").write_bytes(bytes(128))
    readers = {"a": str(tmp_path / "cmb.mhd"), "b": str(tmp_path / "again.mhd")}
    case = Case(
        name="s1",
        cohort="c",
        subject="s1",
        images={Role.SWI: ImageSource(path=str(tmp_path / "swi.mhd"))},
        label=LabelSource(kind="mask", path=readers["a"], raters=readers),
        brain_mask=BrainMaskSource(source=ImageSource(path=str(tmp_path / "brain.mhd"))),
    )
    named = [path.name for path in source_paths(case)]
    assert named == ["swi.mhd", "swi.raw", "cmb.mhd", "cmb.raw", "again.mhd", "again.raw", "brain.mhd", "brain.raw"]
