import os
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.preprocessing.slices import IGNORED, slice_input
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import PictureSettings
from cmb_autoseg.trainers.slices import store as module
from cmb_autoseg.trainers.slices.store import SliceStore


@pytest.fixture
def store(raw):
    return SliceStore(raw, raw.roles, (), PictureSettings(fit="pad"), (48, 48))


def by_name(store, cases=None):
    return {case.name: case for case in store.open(cases or store.raw.cases)}


def whole(store, case):
    """Every slice of a case's scan."""
    volumes = {role: read_volume(case.image(channel)) for channel, role in enumerate(case.sequences)}
    return slice_input(volumes, store.channels, store.pictures, store.size)


def test_pictures_masks_and_boxes_of_every_case(store):
    cases = by_name(store)
    assert list(cases) == ["a", "b", "c", "free"]
    case = cases["a"]
    assert isinstance(case.data, np.memmap)
    assert (case.data.dtype, case.data.shape[1:], case.mask.shape[1:]) == (np.float16, (2, 48, 48), (48, 48))
    made = whole(store, store.raw.cases[0])
    np.testing.assert_array_equal(case.data, made.data.astype(np.float16))
    row, column = 20 - made.frame.start[0], 20 - made.frame.start[1]
    assert case.mask[3, row, column] == 1
    swi = case.data[3, 0]
    assert swi[row, column] < 0.5 < np.median(swi[swi > 0])
    x_min, y_min, x_max, y_max = case.boxes_of(3)[0]
    assert x_min < column < x_max
    assert y_min < row < y_max
    assert cases["free"].boxes.shape == (0, 5)
    assert not cases["free"].positive.size


def test_slices_without_brain_are_left_out_and_boxes_follow(raw):
    case = raw.cases[1]
    for path in (case.image(0), case.image(1)):
        image = nib.load(path)
        data = image.get_fdata()
        data[..., :2], data[..., 6:] = 0, 0
        nib.save(nib.Nifti1Image(data.astype(np.float32), image.affine), path)
    label = nib.load(case.label)
    mask = np.asarray(label.dataobj)
    mask[..., :2] = 0
    nib.save(nib.Nifti1Image(mask, label.affine), case.label)
    store = SliceStore(raw, raw.roles, (), PictureSettings(), (48, 48))
    opened = by_name(store)["b"]
    np.testing.assert_array_equal(opened.data, whole(store, case).data[2:6].astype(np.float16))
    assert opened.positive[0] == 0
    assert opened.mask[0].any()


def test_what_is_there_is_not_made_again(store, monkeypatch):
    store.open(store.raw.cases)
    monkeypatch.setattr(SliceStore, "_write", lambda *_: pytest.fail("made again"))
    store.open(store.raw.cases[::-1])


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_changed_file_is_read_anew(store, part):
    before = by_name(store)
    case = store.raw.cases[0]
    path = case.image(0) if part == "image" else case.label
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)
    later = time.time() + 5
    os.utime(path, (later, later))
    after = by_name(store)
    changed = "data" if part == "image" else "mask"
    assert (np.asarray(getattr(after["a"], changed)) != np.asarray(getattr(before["a"], changed))).any()


def test_a_dataset_that_was_prepared_anew_is_read_anew(store, monkeypatch):
    store.open(store.raw.cases)
    written = []
    write = SliceStore._write
    monkeypatch.setattr(SliceStore, "_write", lambda self, case: (written.append(case.name), write(self, case)))
    replace(store, raw=replace(store.raw, digest="sha256:1")).open(store.raw.cases[:2])
    assert written == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"size": (24, 24)},
        {"pictures": PictureSettings(fit="pad", normalization="white_matter_peak")},
        {"diameter_mm": (2.0, 10.0)},
        {"blank": (Role.QSM,)},
    ],
)
def test_other_settings_have_a_folder_of_their_own(store, change):
    assert replace(store, **change).folder != store.folder


def test_settings_that_change_no_picture_share_the_folder(store):
    assert replace(store, pictures=PictureSettings(fit="pad", neighbors=2)).folder == store.folder


def test_blank_sequences_stay_blank_and_small_lesions_are_ignored(store):
    case = by_name(replace(store, blank=(Role.QSM,), diameter_mm=(5.5, 10.0)))["a"]
    assert case.data[:, 0].any()
    assert not case.data[:, 1].any()
    assert not case.positive.size
    assert set(np.unique(case.mask)) == {0, IGNORED}


def test_damaged_pictures_are_told(store):
    store.open(store.raw.cases)
    (store.folder / "a.data.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=rf"{store.folder}: the pictures of a are damaged .*run this again"):
        store.open(store.raw.cases)


def test_an_interrupted_case_is_written_again(store, monkeypatch):
    """A kill between two files leaves no record of the case, and nothing half-written behind the next run."""
    save = np.save

    def killed(path, array):
        if "mask" in str(path):
            raise KeyboardInterrupt
        save(path, array)

    monkeypatch.setattr(module.np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        store.open(store.raw.cases)
    assert not (store.folder / "a.json").exists()
    monkeypatch.setattr(module.np, "save", save)
    assert len(store.open(store.raw.cases)) == 4
    assert not list(store.folder.glob(".tmp*"))


def test_a_full_disk_is_told(store, monkeypatch):
    def full(path, array):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        store.open(store.raw.cases)
