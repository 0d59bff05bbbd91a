import pytest
from pydantic import ValidationError

from cmb_autoseg.networks.residual25d import Residual25d
from cmb_autoseg.networks.unet2d import UNet2d
from cmb_autoseg.trainers.recipe import SliceSettings, read_recipe
from cmb_autoseg.trainers.slices.networks import build_slice_network


def test_slices25d_has_the_published_settings():
    recipe = read_recipe("slices25d")
    slices, schedule = recipe.slices, recipe.schedule
    assert (slices.pictures.size, slices.pictures.fit, slices.pictures.neighbors) == ((384, 384), "crop", 1)
    assert slices.pictures.normalization == "white_matter_peak"
    assert (slices.positive_share, slices.lesion_diameter_mm, slices.positive_weight) == (0.5, (2.0, 10.0), 1.0)
    assert recipe.optimizer.learning_rate == 1e-3
    assert (schedule.decay, schedule.factor, schedule.patience_epochs) == ("plateau", 0.1, 30)
    assert (schedule.stop_after_epochs, schedule.keep) == (60, "best")
    assert slices.augmentation.flip == ("coronal",)
    network = build_slice_network(slices, 2)
    assert isinstance(network, Residual25d)
    assert network.stem[0].in_channels == 6


def test_unet2d_has_the_published_settings():
    recipe = read_recipe("unet2d")
    slices = recipe.slices
    assert (slices.pictures.size, slices.pictures.normalization, slices.pictures.neighbors) == (
        (256, 256),
        "min_max",
        0,
    )
    assert (slices.positive_share, slices.lesion_diameter_mm) == (None, None)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate) == (250, 4, 1e-4)
    assert recipe.schedule.decay == "constant"
    network = build_slice_network(slices, 2)
    assert isinstance(network, UNet2d)
    assert network.down[0][0].in_channels == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": {"size": [50, 48]}}, "multiples of 4"),
        ({"pictures": {"size": [8, 4]}}, "multiples of 4, 8 or more"),
        ({"lesion_diameter_mm": [5.0, 2.0]}, r"lesion_diameter_mm\s+.*the first number is the smallest"),
        ({"augmentation": {"flip": ["axial"]}}, "coronal"),
    ],
)
def test_settings_that_cannot_work_are_told(change, message):
    with pytest.raises(ValidationError, match=message):
        SliceSettings.model_validate({"network": "unet2d", "features": [4, 8, 8], **change})
