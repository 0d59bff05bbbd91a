import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.evaluation.inputs.regions import lesion_regions, read_regions
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.geometry import write_volume
from cmb_autoseg.lesions.components import find_components


@pytest.fixture
def regions(tmp_path, phantom):
    """Lobar below i = 5, deep from there to 9, infratentorial from 10 to 14, unknown from 15 on."""
    volume = phantom(np.s_[:5])
    volume.data[5:10], volume.data[10:15] = 2, 3
    write_volume(tmp_path / "a.nii.gz", volume, np.uint8)
    return read_regions(tmp_path / "a.nii.gz")


def lesions_of(volume):
    found = find_components(volume.data > 0)
    centres = volume.to_ras_mm(found.centres)
    return LesionSet("mask", centres, found.sizes.astype(float), ("unknown",) * len(found), components=found)


def test_a_lesion_is_where_most_of_its_voxels_are(regions, phantom):
    # Six voxels lobar, an arm of four deep: the centre of mass lies in the arm.
    lesions = lesions_of(phantom(np.s_[4, 0:3, 0:2], np.s_[4:9, 0, 0]))

    assert lesion_regions(lesions, regions) == ("lobar",)
    assert lesion_regions(lesions.slim(), regions) == ("deep",)


def test_equal_shares_fall_to_the_centres_region(regions, phantom):
    toward_the_back = phantom(np.s_[9, 3:5, 3], np.s_[10:12, 3, 3])
    toward_the_front = phantom(np.s_[8:10, 3, 3], np.s_[10, 3:5, 3])

    assert lesion_regions(lesions_of(toward_the_back), regions) == ("infratentorial",)
    assert lesion_regions(lesions_of(toward_the_front), regions) == ("deep",)


def test_points_are_where_their_nearest_voxel_is(regions):
    centres = np.array([[0.4, 1, 1], [5.4, 1, 1], [14.4, 1, 1], [17, 1, 1], [80, 1, 1]])
    lesions = LesionSet("points", centres, np.full(5, np.nan), ("unknown",) * 5)

    assert lesion_regions(lesions, regions) == ("lobar", "deep", "infratentorial", "unknown", "unknown")


def test_several_lesions_keep_their_order_and_none_has_no_region(regions, phantom):
    mask = phantom(np.s_[12, 1, 1], np.s_[1:3, 1, 1], np.s_[17:19, 1:3, 1])
    assert lesion_regions(lesions_of(mask), regions) == ("unknown", "lobar", "infratentorial")
    assert lesion_regions(lesions_of(phantom()), regions) == ()


def test_other_grids_and_values_are_refused(tmp_path, phantom, regions):
    with pytest.raises(GeometryError, match=r"a\.nii\.gz: shape .* resample the map of regions"):
        read_regions(tmp_path / "a.nii.gz", phantom(shape=(20, 20, 21)))
    write_volume(tmp_path / "b.nii.gz", phantom(np.s_[1, 1, 1], value=7), np.uint8)
    with pytest.raises(InputError, match=r"b\.nii\.gz: holds 7, but only 0 unknown, 1 lobar, 2 deep, 3 infratentorial"):
        read_regions(tmp_path / "b.nii.gz")
