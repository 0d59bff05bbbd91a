from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.acquisition.receiver import Receiver, coil, draw_receiver, receive, written_phase
from cmb_autoseg.simulation.protocols import Protocol

PROTOCOL = Protocol("noisy", 3.0, (10.0, 20.0), (1.0, 1.0, 1.5), (48, 40, 20), (0.0, 0.0, 0.0), snr=30.0)
STILL = Receiver(torch.zeros(5, 5, 4), torch.zeros(5, 5, 4), noise_seed=3)


@pytest.mark.parametrize(
    "protocol",
    [
        PROTOCOL,
        replace(PROTOCOL, acquired_mm=(2.0, 1.0, 3.0)),
        replace(PROTOCOL, partial_fourier=(0.75, 1.0, 0.8)),
    ],
)
def test_noise_has_the_standard_deviation_asked_for(protocol):
    noise = receive(torch.zeros(2, 48, 40, 20, dtype=torch.complex64), STILL, protocol, noise_sd=0.4)

    assert float(noise.real.std()) == pytest.approx(0.4, rel=0.03)
    assert float(noise.imag.std()) == pytest.approx(0.4, rel=0.03)
    assert abs(float((noise[0].real * noise[1].real).mean())) < 0.01


def test_zero_filled_noise_is_correlated_between_neighbours():
    protocol = replace(PROTOCOL, acquired_mm=(2.0, 1.0, 1.5))
    noise = receive(torch.zeros(2, 48, 40, 20, dtype=torch.complex64), STILL, protocol, 1.0).real

    assert float((noise[:, 1:] * noise[:, :-1]).mean()) > 0.5
    assert abs(float((noise[:, :, 1:] * noise[:, :, :-1]).mean())) < 0.05


def test_movement_makes_ghosts_and_keeps_the_energy():
    still = torch.zeros(1, 48, 40, 20, dtype=torch.complex64)
    still[0, 18:30, 14:26, 6:14] = 1
    receiver = replace(STILL, moved_lines=((0.7, 0.85, (2.0, 0.0, 0.0)),))

    moved = receive(still, receiver, PROTOCOL, noise_sd=0.0)

    assert float(moved.abs().square().sum()) == pytest.approx(float(still.abs().square().sum()), rel=1e-4)
    assert moved[0, :14, 20, 10].abs().max() > 0.01
    assert moved[0, 24, :10, 10].abs().max() < 1e-4  # none along the other axis
    assert torch.allclose(receive(still, STILL, PROTOCOL, 0.0), still, atol=1e-6)


def test_coil_is_smooth_and_the_draw_is_seeded():
    receiver = draw_receiver(np.random.default_rng(5), PROTOCOL)
    sensitivity = coil(receiver, (48, 40, 20), torch.device("cpu"))

    assert (sensitivity[1:] - sensitivity[:-1]).abs().max() < 0.15
    assert sensitivity.abs().std() > 0.01
    again = draw_receiver(np.random.default_rng(5), PROTOCOL)
    assert torch.equal(coil(again, (48, 40, 20), torch.device("cpu")), sensitivity)
    assert again.noise_seed == receiver.noise_seed


def test_vendors_write_the_phase_with_their_sign():
    image = torch.polar(torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), 0.7))
    assert float(written_phase(image, PROTOCOL).mean()) == pytest.approx(0.7)
    assert float(written_phase(image, replace(PROTOCOL, phase_sign=-1)).mean()) == pytest.approx(-0.7)
