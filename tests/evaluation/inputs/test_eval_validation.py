import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.pairing import find_cases
from cmb_autoseg.evaluation.inputs.validation import refuse_judged_cases
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import write_volume


@pytest.fixture
def cases(tmp_path, phantom):
    """Make a folder of pairs: name to the place of its lesion, None for no lesion."""

    def make(name, **lesions):
        for case, place in lesions.items():
            volume = phantom(*([] if place is None else [np.s_[place, 1, 1]]))
            write_volume(tmp_path / f"{name}_ref" / f"{case}.nii.gz", volume, np.uint8)
            write_volume(tmp_path / f"{name}_pred" / f"{case}.nii.gz", volume, np.uint8)
        return find_cases(tmp_path / f"{name}_pred", tmp_path / f"{name}_ref").cases

    return make


def check(validation, test, subject=lambda name: name, test_subject=None):
    one = {case.name: subject(case.name) for case in validation}
    other = {case.name: (test_subject or subject)(case.name) for case in test}
    refuse_judged_cases(validation, test, one, other)


def test_other_cases_pass_and_empty_masks_are_alike_without_guilt(cases):
    check(cases("val", a=3, b=None), cases("test", c=4, d=None))


def test_the_tests_own_references_are_refused(cases):
    test = cases("test", a=3, b=4)
    with pytest.raises(InputError, match=r"--validation: the references in .*test_ref are the test's own; choose the"):
        check(test[:1], test[1:])


def test_shared_names_are_refused(cases):
    with pytest.raises(InputError, match=r"--validation: b, c of validation are cases of the test, too; choose"):
        check(cases("val", a=3, b=4, c=5), cases("test", b=6, c=7))


def test_shared_subjects_are_refused(cases):
    with pytest.raises(InputError, match=r"--validation: subjects p1 are in the test, too"):
        check(cases("val", p1_x=3), cases("test", p1_y=4), lambda name: name.split("_")[0])


@pytest.mark.parametrize(
    ("of_validation", "of_test"),
    [("sub-00", "A/sub-00"), ("A/sub-00", "sub-00"), ("sub-00", "A/x7"), ("sub-00", "x7"), ("x7", "A/x7")],
)
def test_one_person_under_two_names_of_which_a_table_tells_but_one(cases, of_validation, of_test):
    validation, test = cases("val", **{"sub-00_ses-2": 3}), cases("test", **{"sub-00_ses-1": 4})
    with pytest.raises(
        InputError, match=r"sub-00_ses-2 \(subject .*\) is by its name of the same person as sub-00_ses-1"
    ):
        check(validation, test, lambda _: of_validation, lambda _: of_test)


@pytest.mark.parametrize(
    ("scan", "of_validation", "of_test"),
    [("sub-00_ses-2", "B/sub-00", "A/sub-00"), ("sub-00_ses-2", "x8", "x7"), ("sub-01", "sub-01", "A/x7")],
)
def test_two_people_by_the_table_may_have_one_number(cases, scan, of_validation, of_test):
    validation, test = cases("val", **{scan: 3}), cases("test", **{"sub-00_ses-1": 4})
    check(validation, test, lambda _: of_validation, lambda _: of_test)


def test_the_same_reference_under_another_name_is_refused(cases):
    with pytest.raises(InputError, match=r"the reference of a is the same as that of z in the test \(.*a\.nii\.gz"):
        check(cases("val", a=3), cases("test", y=None, z=3))


def test_the_same_mask_in_another_form_is_refused_and_damaged_ones_are_left_to_their_cases(cases, tmp_path):
    test = cases("test", z=3)
    stored = nib.load(test[0].reference.path)
    turned = nib.Nifti1Image(stored.get_fdata().astype(np.float32), stored.affine).as_reoriented(
        [[0, -1], [2, 1], [1, 1]]
    )
    (tmp_path / "val").mkdir()
    nib.save(turned, tmp_path / "val" / "a.nii")
    validation = find_cases(test[0].predicted.path, tmp_path / "val" / "a.nii").cases

    with pytest.raises(InputError, match="the reference of a is the same as that of z"):
        check(validation, test)
    shifted = nib.Nifti1Image(stored.get_fdata().astype(np.uint8), stored.affine + np.diag([0, 0, 0.5, 0]))
    nib.save(shifted, tmp_path / "val" / "a.nii")
    check(validation, test)
    (tmp_path / "val" / "a.nii").write_bytes(b"damaged")
    check(validation, test)


def test_rows_of_one_table_are_compared_as_files_are(tmp_path):
    header = "case\tx_mm\ty_mm\tz_mm\n"
    for name, rows in {"val": "a\t1\t2.0\t3\n", "test": "z\t1\t2\t3\ny\n", "pred": "a\t1\t2\t3\nz\t1\t2\t3\n"}.items():
        write_text(tmp_path / f"{name}.tsv", header + rows)
    validation, test = (find_cases(tmp_path / "pred.tsv", tmp_path / f"{name}.tsv").cases for name in ("val", "test"))

    with pytest.raises(InputError, match="the reference of a is the same as that of z"):
        check(validation, test)
