"""A scan of 40 x 44 x 12 voxels of 1 x 1 x 2 mm, written by hand."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.patches import Circle

from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere, Tube
from cmb_autoseg.simulation.contents.visibility import Mark
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.montage import draw_montage, shown_slices, write_montage
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

SHAPE = (40, 44, 12)
GRID = Grid(SHAPE, (1.0, 1.0, 2.0), (-20.0, -40.0, 10.0))
PROTOCOL = Protocol("tiny", 3.0, (8.0, 20.0), GRID.spacing_mm, SHAPE, (0.0, -18.0, 21.0), snr=30.0)


def inclusion(kind, centre_mm, radius_mm=1.0, chi_ppm=1.0):
    return Inclusion(kind, (Sphere(centre_mm, radius_mm, chi_ppm),), Region.LOBAR, "anywhere")


def mark(voxels, visible=True):
    all_voxels = np.array(voxels, dtype=np.int64).reshape(-1, 3)
    centre = tuple(GRID.to_mm(all_voxels).mean(axis=0))
    return Mark(inclusion(Kind.MICROBLEED, centre), all_voxels if visible else all_voxels[:0], all_voxels, 0.5, 9.0)


def make_scan(marks=(), mimics=(), tubes=(), names=("mag", "phase", "swi", "minip", "qsm", "t1w")):
    rng = np.random.default_rng(0)
    images = {}
    for name in names:
        shape = (*SHAPE, 2) if name in ("mag", "phase") else SHAPE
        images[name] = rng.uniform(0, 100, shape).astype(np.float32)
    brain = np.zeros(SHAPE, dtype=bool)
    brain[5:35, 6:40, 1:11] = True
    magnitude = np.ones(SHAPE, dtype=np.float32)
    contents = Contents([m.lesion for m in marks], list(mimics), list(tubes))
    return SimulatedScan(
        Person(71, "F"), PROTOCOL, GRID, images, brain, list(marks), contents, 1.0, magnitude, magnitude, np.eye(4)
    )


LESION = mark([[10, 20, 4], [11, 20, 4], [12, 20, 4], [11, 20, 5]])
FAINT = mark([[25, 30, 8]], visible=False)
SPECK = inclusion(Kind.CALCIFICATION, (3.0, -12.0, 10.0 + 2 * 6), chi_ppm=-2.0)


def artists(figure, gid):
    return [(axes, artist) for axes in figure.axes for artist in axes.get_children() if artist.get_gid() == gid]


def test_a_row_for_each_image_there_is_and_a_column_for_each_slice():
    figure = draw_montage(make_scan([LESION], names=("mag", "swi", "qsm")), columns=4)

    names = [axes.get_gid().split()[0] for axes in figure.axes]
    assert names == ["mag"] * 4 + ["swi"] * 4 + ["qsm"] * 4


def test_a_lesion_is_ringed_where_it_is_visible_and_nowhere_else():
    figure = draw_montage(make_scan([LESION], names=("mag",)), columns=4)

    rings = {axes.get_gid(): ring for axes, ring in artists(figure, "microbleed")}

    assert set(rings) <= {"mag 4", "mag 5"}
    ring = rings["mag 4"]
    assert isinstance(ring, Circle)
    assert not ring.get_fill()
    # Voxels 10, 11, 12 of row 20: 9 mm left of the middle, 20 mm in front of the rear edge.
    assert ring.center == pytest.approx((-9.0, -20.0))
    assert ring.get_radius() == pytest.approx(1 + 2.5)


def test_faint_lesions_and_mimics_differ_from_lesions_and_vessels_are_not_marked():
    line = np.array([[0.0, -20.0, 12.0], [0.0, -20.0, 30.0]])
    vein = Tube(Kind.VEIN, line, np.array([1.0, 1.0]), 0.3, "deep")
    figure = draw_montage(make_scan([LESION, FAINT], [SPECK], [vein], names=("swi",)))

    (_, faint), (speck_axes, speck) = artists(figure, "faint microbleed")[0], artists(figure, "calcification")[0]
    assert faint.get_linestyle() != artists(figure, "microbleed")[0][1].get_linestyle()
    assert speck_axes.get_gid() == "swi 6"
    assert (float(speck.get_xdata()[0]), float(speck.get_ydata()[0])) == (3.0, -12.0)
    assert speck.get_marker() == "s"
    assert not artists(figure, "vein")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["microbleed (ring)", "microbleed too faint to see", "calcification"]


def test_slices_show_lesions_first_and_then_mimics():
    scan = make_scan([LESION, FAINT], [SPECK])

    assert shown_slices(scan, 1) == [4]
    assert shown_slices(scan, 2) == [4, 6]
    assert shown_slices(scan, 3) == [4, 6, 8]
    assert len(set(shown_slices(scan, 5))) == 5


def test_a_mimic_outside_the_volume_is_not_shown():
    outside = inclusion(Kind.CALCIFICATION, (3.0, -12.0, 90.0))

    assert not artists(draw_montage(make_scan(mimics=[outside], names=("mag",))), "calcification")


def test_the_right_side_is_drawn_on_the_left_and_phase_has_its_whole_circle():
    figure = draw_montage(make_scan(names=("phase", "qsm")), columns=2)

    phase, qsm = figure.axes[0], figure.axes[-1]
    left, right = phase.get_xlim()
    assert left > right
    assert phase.get_images()[0].get_clim() == pytest.approx((-np.pi, np.pi))
    assert qsm.get_images()[0].get_clim() == (-0.15, 0.25)


def test_bright_fluid_does_not_make_the_brain_dark():
    scan = make_scan(names=("swi",))
    scan.images["swi"][:] = 100
    scan.images["swi"][10:20, 10:20] = 400

    figure = draw_montage(scan, columns=1)

    assert figure.axes[0].get_images()[0].get_clim() == pytest.approx((0, 170))


def test_the_heading_says_simulated_and_how():
    figure = draw_montage(make_scan([LESION, FAINT], names=("mag",)), title="sub-101")

    heading = figure.texts[0].get_text()
    assert heading.startswith("sub-101: simulated, no real scan. Protocol tiny: 3 T, TE 8/20 ms")
    assert "1 visible microbleeds, 1 too faint" in heading


@pytest.mark.parametrize("marks", [(), (LESION,)])
def test_a_montage_is_1600_pixels_wide_and_the_same_each_time(tmp_path, marks):
    scan = make_scan(marks, names=("swi", "qsm"))
    write_montage(tmp_path / "montage" / "sub-1.png", scan, columns=2)
    write_montage(tmp_path / "again" / "sub-1.png", scan, columns=2)

    first, again = ((tmp_path / name / "sub-1.png").read_bytes() for name in ("montage", "again"))
    assert first == again
    assert matplotlib.image.imread(tmp_path / "montage" / "sub-1.png").shape[1] == 1600
