import math
from dataclasses import replace

import numpy as np
import pytest

from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import (
    TISSUES,
    Tissue,
    TissueValues,
    draw_tissue,
    radians_per_ppm,
    spoiled_echo,
    white_matter_signal,
)

VALUES = TissueValues(TISSUES)
SWI_3D = Protocol("swi", 3.0, (20.0,), (1.0, 1.0, 2.0), (8, 8, 8), (0.0, 0.0, 0.0), 30.0, 40.0, 15.0)
GRE_2D = replace(SWI_3D, field_strength_t=1.5, echo_times_ms=(25.0,), repetition_time_ms=800.0, flip_angle_deg=20.0)


class Someone:
    age = 60


def test_phase_of_a_ppm_grows_with_field_and_echo_time():
    # 42.577 MHz/T * 3 T * 1e-6 * 20 ms = 2.5546 turns
    assert radians_per_ppm(3.0, 20.0) == pytest.approx(2 * math.pi * 2.55462, rel=1e-5)
    assert radians_per_ppm(7.0, 10.0) == pytest.approx(radians_per_ppm(3.5, 20.0))


def test_spoiled_echo_by_hand():
    assert spoiled_echo(0.8, 1000.0, 1e9, 30.0) == pytest.approx(0.4)  # fully relaxed: M0 sin 30
    half = 1000.0 * math.log(2)  # half recovered: 0.8 * 0.5 * (1 - 0.5) / (1 - 0.5 cos 30)
    assert spoiled_echo(0.8, 1000.0, half, 30.0) == pytest.approx(0.2 / (1 - 0.5 * math.sqrt(0.75)))


def test_fluid_is_bright_in_2d_gre_and_grey_in_3d_swi():
    def against_white(protocol):
        return VALUES.signal("fluid", protocol, protocol.echo_time_ms) / white_matter_signal(VALUES, protocol)

    assert against_white(GRE_2D) > 1.2
    assert 0.4 < against_white(SWI_3D) < 1.0


def test_relaxation_is_tabulated_and_interpolated_over_field_strength():
    tissue = Tissue(0.0, 1.0, (600.0, 900.0, 1100.0), (10.0, 20.0, 40.0))
    assert (tissue.t1_at(1.5), tissue.t1_at(3.0), tissue.t1_at(7.0)) == (600.0, 900.0, 1100.0)
    assert tissue.r2star_at(5.0) == pytest.approx(30.0)


def test_venous_blood_decays_faster_the_less_oxygen_it_holds():
    assert VALUES.venous_r2star(0.0, 3.0) == pytest.approx(13.8)
    # Uludag et al. 2009 at 3 T: 13.8 + 181 (1 - Y)^2; chi of 4 pi 0.27 0.42 (1 - Y)
    assert VALUES.venous_r2star(4 * math.pi * 0.27 * 0.42 * 0.35, 3.0) == pytest.approx(13.8 + 181 * 0.35**2, rel=0.01)


def test_people_differ_about_the_published_values_and_a_seed_is_a_person():
    drawn = [draw_tissue(np.random.default_rng(seed), Someone()) for seed in range(200)]
    white = np.array([values.tissues["white"].r2star_at(3.0) for values in drawn])

    assert white.mean() == pytest.approx(18.8 * (1 - 0.0015 * 10), rel=0.02)
    assert 0.03 < white.std() / white.mean() < 0.07
    assert draw_tissue(np.random.default_rng(7), Someone()) == drawn[7]
