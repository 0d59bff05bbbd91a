import numpy as np
import pytest

from cmb_autoseg.pretraining.patches import PretrainingCase
from cmb_autoseg.pretraining.setup import PretrainingSetup
from cmb_autoseg.records import Role, Topology
from cmb_autoseg.trainers.recipe import AugmentationSettings, PretrainingSettings

TOPOLOGY = Topology(
    features_per_stage=(4, 6, 8),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    n_blocks_per_stage=(1, 1, 1),
)


def head(seed, absent=()):
    """A box of brain in which the second sequence is the first one inverted, and the third one noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.normal(size=(6, 8, 8)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    inside = np.stack((blocks, -blocks, rng.normal(size=blocks.shape))).astype(np.float32)
    image = np.zeros((3, 20, 24, 24), np.float32)
    image[:, 4:16, 4:20, 4:20] = inside + 0.1 * rng.normal(size=inside.shape).astype(np.float32)
    image[list(absent)] = 0
    return PretrainingCase(f"person-{seed}", image, np.argwhere(image.any(axis=0))[::50])


@pytest.fixture(scope="session")
def cases():
    return [head(0), head(1), head(2), head(3, absent=[1])]


@pytest.fixture
def make_setup():
    def make(method="barlow_twins", places="patch", augmentation=None, **settings):
        twins = {"projector": (12, 12, 16), "places": places, "voxels_per_patch": 5}
        chosen = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "warmup_steps": 2, **settings}
        return PretrainingSetup(
            PretrainingSettings(method=method, barlow_twins=twins, **chosen),
            augmentation or AugmentationSettings(),
            (Role.SWI, Role.QSM, Role.T1),
            (8, 16, 16),
            (2.0, 1.0, 1.0),
            (1, 2),
            TOPOLOGY,
        )

    return make
