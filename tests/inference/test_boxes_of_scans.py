"""Boxes of slices: linked to lesions, drawn as a map, written in voxels of the scan."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.inference.box_files import write_boxes
from cmb_autoseg.inference.box_maps import draw_boxes
from cmb_autoseg.inference.boxes import BoxEnsemble
from cmb_autoseg.inference.ensemble import SliceBox
from cmb_autoseg.inference.linking import link_boxes
from cmb_autoseg.networks.ssd.matching import places_of
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import BoxSettings, LinkSettings


def linked(rows, **settings):
    """Lesion numbers of rows (slice, x_min, y_min, x_max, y_max, score)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return link_boxes(table[:, 0].astype(int), table[:, 1:5], table[:, 5], LinkSettings(**settings)).tolist()


def test_a_ball_over_three_slices_is_one_lesion():
    assert linked([(4, 2, 2, 6, 6, 0.3), (5, 1, 1, 7, 7, 0.9), (6, 2, 2, 6, 6, 0.5)]) == [1, 1, 1]


def test_two_side_by_side_are_two_lesions_by_falling_score():
    rows = [(4, 0, 0, 4, 4, 0.3), (5, 0, 0, 4, 4, 0.4), (4, 10, 0, 14, 4, 0.8), (5, 10, 0, 14, 4, 0.2)]
    assert linked(rows) == [2, 2, 1, 1]


def test_the_larger_overlap_is_linked_first_and_a_box_has_one_partner_a_side():
    """Over the box of slice 5 lie two: IoU 16/16 and 12/20; the worse one stays alone."""
    rows = [(5, 0, 0, 4, 4, 0.5), (6, 1, 0, 5, 4, 0.9), (6, 0, 0, 4, 4, 0.4)]
    assert linked(rows) == [2, 1, 2]


@pytest.mark.parametrize(("gap", "lesions"), [(0, [1, 2]), (1, [1, 1])])
def test_a_skipped_slice_is_bridged_as_the_setting_says(gap, lesions):
    assert linked([(4, 0, 0, 4, 4, 0.5), (6, 0, 0, 4, 4, 0.4)], max_gap=gap) == lesions


def test_no_gap_is_bridged_where_a_neighbor_fits():
    """Slices 4, 5, 6 all overlap: 4-5 and 5-6 are linked, not 4-6."""
    rows = [(4, 0, 0, 4, 4, 0.5), (6, 0, 0, 4, 4, 0.5), (5, 0, 0, 3, 4, 0.5)]
    assert linked(rows) == [1, 1, 1]


def test_faint_boxes_do_not_draw_a_clear_lesion_out():
    rows = [(4, 0, 0, 4, 4, 0.9), (5, 0, 0, 4, 4, 0.1)]
    assert linked(rows) == [1, 2]
    assert linked(rows, min_score_ratio=0.1) == [1, 1]


def test_overlap_must_reach_the_limit():
    rows = [(4, 0, 0, 4, 4, 0.9), (5, 2, 0, 6, 4, 0.9)]  # 8 of 24
    assert linked(rows, min_iou=0.33) == [1, 1]
    assert linked(rows, min_iou=0.34) == [1, 2]


def test_nothing_found_is_no_lesion():
    assert linked([]) == []


def test_ellipses_hold_the_lesions_highest_score():
    boxes = [SliceBox(1, 1.5, 1.5, 4.5, 4.5, 0.3, 1), SliceBox(2, 1.5, 1.5, 4.5, 4.5, 0.8, 1)]
    drawn = draw_boxes(boxes, (8, 8, 4))
    disc = np.zeros((8, 8), dtype=bool)
    disc[2:5, 3] = disc[3, 2:5] = True
    disc[2:5, 2:5] = True  # corners lie sqrt(2) from the middle, within 1.5
    assert np.array_equal(drawn[:, :, 1] > 0, disc)
    assert drawn[3, 3, 1] == drawn[3, 3, 2] == np.float32(0.8)
    assert not drawn[:, :, [0, 3]].any()


def test_the_higher_lesion_counts_and_skipped_slices_are_filled():
    boxes = [
        SliceBox(0, 0.5, 0.5, 3.5, 3.5, 0.4, 1),
        SliceBox(2, 2.5, 0.5, 5.5, 3.5, 0.5, 1),
        SliceBox(0, 0.5, 0.5, 3.5, 3.5, 0.2, 2),
    ]
    drawn = draw_boxes(boxes, (8, 5, 3))
    assert drawn[2, 2, 0] == np.float32(0.5)
    assert drawn[3, 2, 1] == np.float32(0.5)  # the middle between (2, 2) and (4, 2)
    assert drawn[1, 2, 1] == 0


def test_a_box_between_voxels_is_not_lost():
    drawn = draw_boxes([SliceBox(0, 1.1, 1.1, 1.4, 1.4, 0.6, 1)], (4, 4, 1))
    assert np.argwhere(drawn).tolist() == [[1, 1, 0]]


def scan(affine, shape=(6, 8, 4)):
    return Volume(np.zeros(shape, np.float32), np.array(affine, dtype=float), None, "scan")


def test_boxes_are_written_in_voxels_of_the_scan_as_it_came(tmp_path):
    """Stored with both axes of the picture reversed (LPS): canonical (1, 2) of 6 x 8 is stored (4, 5)."""
    own = scan(np.diag([-1.0, -1, 2, 1]))
    boxes = [SliceBox(3, 0.5, 1.5, 1.5, 2.5, 0.25, 2), SliceBox(1, -0.5, -0.5, 1.5, 0.5, 0.5, 1)]
    write_boxes(tmp_path / "a_boxes.tsv", boxes, own)
    rows = [list(row.values()) for row in read_tsv(tmp_path / "a_boxes.tsv")]
    assert rows == [["1", "4", "7", "6", "8", "0.5", "1"], ["3", "4", "5", "5", "6", "0.25", "2"]]
    marked = own.data.copy()
    marked[4, 5, 3] = 1  # x from 4 to 5 is voxel 4
    assert np.argwhere(to_canonical(own.with_data(marked)).data).tolist() == [[1, 2, 3]]


def test_boxes_of_a_scan_stored_in_another_plane_have_three_dimensions(tmp_path):
    own = scan([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], (4, 6, 8))  # stored (k, i, j)
    write_boxes(tmp_path / "a_boxes.tsv", [SliceBox(3, 0.5, 1.5, 2.5, 2.5, 0.5, 1)], own)
    (row,) = read_tsv(tmp_path / "a_boxes.tsv")
    assert list(row) == ["x_min", "y_min", "z_min", "x_max", "y_max", "z_max", "score", "lesion"]
    assert [float(row[c]) for c in list(row)[:6]] == [3, 1, 2, 4, 3, 3]


class Told(torch.nn.Module):
    """Says two boxes of every picture, in pixels whose faces are whole numbers, at scores of about 0.99 and 0.73."""

    anchors = torch.tensor([[40.0, 60, 60, 90], [200, 150, 230, 180]])
    boxes = torch.tensor([[30.0, 60, 42, 78], [240, 150, 246, 165]])

    def forward(self, pictures):
        logits = torch.tensor([[0.0, 5], [0, 1]])
        return tuple(values.expand(len(pictures), -1, -1) for values in (logits, places_of(self.boxes, self.anchors)))


def test_boxes_of_pixels_lie_at_the_same_place_in_the_scan():
    """A scan of 100 x 100 voxels is a picture of 300 x 300: the pixels' face at 30 is the voxels' at 10, which is 9.5
    where voxel 0 reaches from -0.5 to 0.5."""
    ensemble = BoxEnsemble.__new__(BoxEnsemble)
    ensemble.device, ensemble.channels, ensemble.plan = "cpu", (Role.SWI,), SimpleNamespace(channels=(Role.SWI,))
    ensemble._settings, ensemble._networks = BoxSettings(size=300), [Told(), Told()]
    volume = Volume(np.random.default_rng(0).normal(100, 5, (100, 100, 2)).astype(np.float32), np.eye(4))
    found = ensemble.predict({Role.SWI: volume})
    rows = [(box.slice, box.x_min, box.y_min, box.x_max, box.y_max, box.lesion) for box in found.boxes]
    sure, faint = (9.5, 19.5, 13.5, 25.5, 1), (79.5, 49.5, 81.5, 54.5, 2)
    np.testing.assert_allclose(sorted(rows), [(0, *sure), (0, *faint), (1, *sure), (1, *faint)], atol=1e-3)
    marked = np.argwhere(found.probability.data[:, :, 0] > 0.9)
    assert (marked.min(axis=0).tolist(), marked.max(axis=0).tolist()) == ([10, 20], [13, 25])
