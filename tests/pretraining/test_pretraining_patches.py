import numpy as np

from cmb_autoseg.pretraining.patches import CasePatches, PretrainingCase


def test_a_sequence_is_absent_only_where_it_is_zero_throughout():
    image = np.zeros((3, 12, 20, 20), np.float32)
    image[0] = 1
    image[2, 0, 0, 0] = 1  # Far from the brain's middle.
    patches = CasePatches([PretrainingCase("one", image, np.full((5, 3), 10))], (4, 4, 4), 1.0)
    assert list(patches.present("one")) == [True, False, True]


def test_channels_that_are_known_to_be_blank_are_not_read():
    class Sliced:
        shape = (2, 12, 20, 20)

        def __getitem__(self, place):
            channels = range(2)[place[0]]
            assert list(channels) != [1]
            return np.stack([np.ones(self.shape[1:]) * (1 - channel) for channel in channels])[:, *place[1:]]

    case = PretrainingCase("one", Sliced(), np.full((5, 3), 10), blank=(1,))
    assert list(CasePatches([case], (4, 4, 4), 1.0).present("one")) == [True, False]


def test_patches_lie_around_the_brain_but_for_a_share():
    image = np.ones((1, 40, 40, 40), np.float32)
    patches = CasePatches([PretrainingCase("one", image, np.array([[3, 3, 3]]))], (4, 4, 4), 0.8)
    rng = np.random.default_rng(0)
    kinds = [patches.draw(rng) for _ in range(500)]
    near = [draw for draw in kinds if draw.kind == "brain"]
    assert abs(len(near) / 500 - 0.8) < 0.06
    assert all(0 <= 3 - start < 4 for draw in near for start in draw.start)
    assert max(max(draw.start) for draw in kinds) > 20


def test_a_margin_reaches_outside_the_volume_as_zeros():
    image = np.ones((1, 4, 4, 4), np.float32)
    patches = CasePatches([PretrainingCase("one", image, np.array([[1, 1, 1]]))], (4, 4, 4), 1.0)
    cut = patches.crop(patches.draw(np.random.default_rng(0)), np.array([1, 0, 2]))
    assert cut.shape == (1, 6, 4, 8)
    assert float(cut.sum()) == 64
