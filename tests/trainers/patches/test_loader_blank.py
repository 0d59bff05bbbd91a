import numpy as np
import pytest

from cmb_autoseg.trainers.patches.augmentation import Augmentation, ChannelDropout, Flip, Intensity, SpatialWarp
from cmb_autoseg.trainers.patches.loader import PatchLoader, PatchSource
from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchShares

AUGMENTATION = Augmentation(SpatialWarp(0.5), Flip((1, 2)), Intensity(1.0), ChannelDropout(0.0))


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION])
def test_sequences_that_are_left_out_are_blank_in_every_patch(augmentation):
    image = np.random.default_rng(0).normal(5, 1, (3, 12, 12, 12)).astype(np.float32)
    anchors = [CaseAnchors("a", (12, 12, 12), [], np.array([[6, 6, 6]]))]
    source = PatchSource({"a": image}, {"a": np.zeros((1, 12, 12, 12), np.int8)}, anchors)
    loader = PatchLoader(source, (8, 8, 8), (1, 1, 1), 4, PatchShares(), augmentation, (0,), blank=(0, 2))
    batch = next(loader)["data"]
    assert not batch[:, [0, 2]].any()
    assert batch[:, 1].any()
    assert source.images["a"][:, 0].all()
