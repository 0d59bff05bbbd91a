"""Every case's out-of-fold probability is that of the fold that has not learned from it, and of no other."""

import pytest

from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.pipeline.out_of_fold import map_path
from cmb_autoseg.pipeline.stored import images_of
from cmb_autoseg.raw_dataset import parse_folds, read_raw_dataset
from cmb_autoseg.workspace import DatasetFolders


def test_a_case_is_predicted_by_the_fold_that_it_validates(trained):
    folders = DatasetFolders(trained.workspace, "Dataset501_Elsewhere")
    raw, folds = read_raw_dataset(folders), parse_folds(folders)
    cases = {case.name: case for case in raw.cases}
    for number, fold in enumerate(folds):
        name = fold["val"][0]
        stored = read_volume(map_path(trained.model, name)).data
        own, other = (load_ensemble(trained.model, (n,), "cpu") for n in (number, (number + 1) % len(folds)))
        images = images_of(cases[name], raw, own.channels)
        assert stored == pytest.approx(own.probability(images).data, abs=1e-6)
        assert abs(stored - other.probability(images).data).max() > 1e-3
