from collections import Counter

import numpy as np

from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchSampler, PatchShares

PATCH = (8, 16, 16)


def anchors(name, n_lesions, lesion_voxels=1):
    rng = np.random.default_rng(len(name) + n_lesions)
    lesions = [rng.integers((2, 5, 5), (28, 60, 60), (lesion_voxels, 3)) for _ in range(n_lesions)]
    return CaseAnchors(name, (30, 64, 64), lesions, rng.integers((0, 0, 0), (30, 64, 64), (50, 3)))


def contains(draw, voxel):
    return all(s <= v < s + p for s, v, p in zip(draw.start, voxel, PATCH, strict=True))


def test_every_lesion_patch_holds_a_lesion_away_from_its_border():
    sampler = PatchSampler([anchors("a", 3), anchors("b", 0)], PATCH, PatchShares(1, 0, 0))
    rng = np.random.default_rng(0)
    lesions = [voxel for case in sampler.cases for lesion in case.lesions for voxel in lesion]
    draws = [sampler.draw(rng) for _ in range(120)]
    assert all(draw.case == "a" and any(contains(draw, voxel) for voxel in lesions) for draw in draws)


def test_large_lesions_and_crowded_cases_have_no_advantage():
    sampler = PatchSampler([anchors("a", 1, lesion_voxels=500), anchors("bb", 3)], PATCH, PatchShares(1, 0, 0))
    rng = np.random.default_rng(0)
    counts = Counter(sampler.draw(rng).case for _ in range(2000))
    assert 0.20 < counts["a"] / 2000 < 0.30  # one lesion of four


def test_shares_are_kept_and_centres_are_jittered():
    sampler = PatchSampler([anchors("a", 1)], PATCH, PatchShares(0.6, 0.25, 0.15))
    rng = np.random.default_rng(0)
    draws = [sampler.draw(rng) for _ in range(3000)]
    kinds = Counter(draw.kind for draw in draws)
    assert abs(kinds["lesion"] / 3000 - 0.6) < 0.03
    assert abs(kinds["anywhere"] / 3000 - 0.15) < 0.03
    voxel = sampler.cases[0].lesions[0][0]
    places = np.array([voxel - draw.start for draw in draws if draw.kind == "lesion"])
    assert places.std(axis=0).min() > 1.5


def test_patches_stay_inside_and_are_centred_on_smaller_volumes():
    case = CaseAnchors("s", (4, 64, 64), [np.array([[1, 0, 63]])], np.array([[0, 0, 0]]))
    sampler = PatchSampler([case], PATCH, PatchShares())
    rng = np.random.default_rng(0)
    for _ in range(100):
        z, y, x = sampler.draw(rng).start
        assert z == -2
        assert 0 <= y <= 48
        assert 0 <= x <= 48


def test_without_lesions_the_other_shares_are_used():
    sampler = PatchSampler([anchors("a", 0)], PATCH, PatchShares())
    rng = np.random.default_rng(0)
    assert {sampler.draw(rng).kind for _ in range(50)} == {"brain", "anywhere"}
