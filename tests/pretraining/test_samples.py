import numpy as np
import torch

from cmb_autoseg.pretraining.patches import CasePatches
from cmb_autoseg.pretraining.samples import NumberedSamples, batches, probe_images
from cmb_autoseg.pretraining.setup import build_objective


def numbered(setup, cases, seed):
    patches = CasePatches(cases, setup.patch_shape, 1.0)
    return NumberedSamples(build_objective(setup, 0).sampler, patches, seed, batch_size=4)


def test_every_sample_of_a_training_is_another_one(make_setup, cases):
    setup = make_setup()
    samples = [numbered(setup, cases, seed)[n]["first"].numpy().tobytes() for seed in range(2) for n in range(12)]
    assert len(set(samples)) == 24


def test_a_step_has_the_same_samples_wherever_the_training_begins_and_whoever_draws_them(make_setup, cases):
    samples = numbered(make_setup(), cases, 0)
    cpu = torch.device("cpu")
    whole = list(batches(samples, range(3), range(4), cpu))
    later = list(batches(samples, range(2, 3), range(4), cpu))
    shares = [list(batches(samples, range(3), own, cpu)) for own in (range(2), range(2, 4))]
    for key in ("first", "second"):
        assert torch.equal(later[0][key], whole[2][key])
        assert torch.equal(torch.cat([share[1][key] for share in shares]), whole[1][key])


def test_probes_are_the_same_for_every_method_and_not_augmented(make_setup, cases):
    patches = CasePatches(cases, (8, 16, 16), 1.0)
    probes = probe_images(patches, 0, 6)
    assert torch.equal(probes, probe_images(patches, 0, 6))
    originals = np.concatenate([case.image.reshape(-1) for case in cases])
    assert np.isin(probes.numpy(), originals).all()
