import numpy as np
import pytest

from cmb_autoseg.lesions.components import find_components, label_components


def flood_fill(mask):
    """Components as sets of voxels, slowly and by another way."""
    left = {tuple(int(n) for n in voxel) for voxel in np.argwhere(mask)}
    found = []
    while left:
        todo, part = [left.pop()], set()
        while todo:
            i, j, k = todo.pop()
            part.add((i, j, k))
            near = {(i + a, j + b, k + c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(part)
    return sorted(found, key=lambda part: (-len(part), min(part)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["C", "F"])
def test_components_are_those_of_a_flood_fill_in_size_then_position(seed, order):
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random((13, 11, 9)) < 0.06, order=order)

    labels = label_components(mask)

    expected = flood_fill(mask)
    assert labels.max() == len(expected) > 5
    for number, part in enumerate(expected, 1):
        assert {tuple(int(n) for n in voxel) for voxel in np.argwhere(labels == number)} == part


def test_a_shared_corner_joins():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True

    assert label_components(mask).max() == 2


def test_sizes_and_centres_of_a_hand_counted_pair():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[0, 0, 0] = True
    mask[2:5, 3, 1:3] = True  # six voxels

    components = find_components(mask)

    assert components.sizes.tolist() == [6, 1]
    assert components.centres.tolist() == [[3, 3, 1.5], [0, 0, 0]]


def test_small_components_leave_labels_sizes_and_centres():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[0, 0, 0] = True
    mask[2:5, 3, 3] = True

    components = find_components(mask, min_voxels=2)

    assert (len(components), components.labels.sum(), components.centres.tolist()) == (1, 3, [[3, 3, 3]])


def test_an_empty_mask_has_no_components():
    components = find_components(np.zeros((3, 3, 3), dtype=bool))

    assert len(components) == 0
    assert components.centres.shape == (0, 3)
