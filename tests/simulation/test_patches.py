"""The endless patches, on a phantom head with few vessels."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation import patches
from cmb_autoseg.simulation.patches import SimulatedPatches, Variation

SHAPE = (20, 18, 10)


@pytest.fixture
def drawn_from(phantom_template, tiny, few_vessels):
    def make(**settings):
        settings = {"sequences": ("mag", "swi"), "protocols": (tiny,), "patches_per_person": 2, **settings}
        return SimulatedPatches([phantom_template], SHAPE, **settings)

    return make


def test_patches_have_the_shape_and_the_sequences_asked_for(drawn_from):
    (patch,) = islice(drawn_from(sequences=("qsm", "phase", "mag")), 1)

    assert patch.images.shape == (3, *SHAPE)
    assert patch.images.dtype == torch.float32
    assert patch.mask.shape == patch.brain.shape == SHAPE
    assert patch.images[1].abs().max() <= np.pi + 1e-5
    assert torch.isfinite(patch.images).all()


def test_patches_about_lesions_show_them(drawn_from):
    some = list(islice(drawn_from(lesion_share=1.0, lesion_free_share=0.0, seed=1), 4))

    assert sum(bool(patch.mask.any()) for patch in some) >= 3
    dark = next(patch for patch in some if patch.mask.any())
    inside = dark.mask > 0
    assert dark.images[0][inside].median() < dark.images[0][dark.brain & ~inside].median()


def test_people_without_lesions_have_no_mask(drawn_from):
    assert not any(patch.mask.any() for patch in islice(drawn_from(lesion_free_share=1.0), 2))


def test_protocols_vary_about_those_given(drawn_from, tiny):
    some = list(islice(drawn_from(), 4))
    echoes = {patch.protocol.echo_time_ms for patch in some}
    spacings = {patch.protocol.spacing_mm for patch in some}
    assert len(echoes) == len(spacings) == 4
    assert all(0.5 < echo / tiny.echo_time_ms < 2 for echo in echoes)
    assert len({patch.protocol.tilt_deg for patch in some}) == 2  # two people

    still = Variation(spacing=0, echo_time=0, flip_angle=0, snr=0, tilt_deg=0)
    (patch,) = islice(drawn_from(variation=still), 1)
    assert patch.protocol.spacing_mm == tiny.spacing_mm
    assert patch.protocol.echo_times_ms == tiny.echo_times_ms


def test_the_seed_and_the_epoch_fix_the_patches(drawn_from):
    one, again, other = (next(iter(drawn_from(seed=seed))).images for seed in (2, 2, 3))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)

    stream = drawn_from(seed=2)
    stream.set_epoch(1)
    assert not torch.equal(one, next(iter(stream)).images)


def test_workers_have_streams_of_their_own(drawn_from, monkeypatch):
    class Worker:
        def __init__(self, number):
            self.id = number

    firsts = []
    for number in (0, 1):
        monkeypatch.setattr(patches, "get_worker_info", lambda number=number: Worker(number))
        firsts.append(next(iter(drawn_from())).images)
    assert not torch.equal(*firsts)


def test_a_data_loader_takes_them(drawn_from):
    patch = next(iter(DataLoader(drawn_from(), batch_size=None)))
    assert patch.images.shape == (2, *SHAPE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sequences": ("t2",)}, "sequences: found t2, legal are mag, phase, swi"),
        ({"sequences": ()}, "sequences: found none"),
        ({"protocols": ()}, "protocols: found none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(drawn_from, settings, message):
    with pytest.raises(InputError, match=message):
        drawn_from(**settings)


def test_no_anatomy_and_tiny_patches_are_refused(phantom_template):
    with pytest.raises(InputError, match="templates: found none"):
        SimulatedPatches([])
    with pytest.raises(InputError, match="at least 8 voxels"):
        SimulatedPatches([phantom_template], (4, 20, 20))
