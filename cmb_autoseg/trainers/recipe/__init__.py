"""What a recipe may say: everything that defines a training run, as data."""

from cmb_autoseg.trainers.recipe.boxes import BoxPictureSettings, BoxSettings, LinkSettings
from cmb_autoseg.trainers.recipe.mixture import MixtureSettings
from cmb_autoseg.trainers.recipe.optimization import OptimizerSettings, ScheduleSettings
from cmb_autoseg.trainers.recipe.patches import (
    AugmentationSettings,
    FeatureEnhancementSettings,
    InferenceSettings,
    NetworkSettings,
    SemiSupervisedSettings,
)
from cmb_autoseg.trainers.recipe.pretraining import PretrainingSettings
from cmb_autoseg.trainers.recipe.reading import is_recipe_file, list_recipes, read_recipe
from cmb_autoseg.trainers.recipe.recipe import Family, Recipe
from cmb_autoseg.trainers.recipe.slices import PictureSettings, SliceAugmentationSettings, SliceSettings
from cmb_autoseg.trainers.recipe.two_stage import TwoStageSettings

__all__ = [
    "AugmentationSettings",
    "BoxPictureSettings",
    "BoxSettings",
    "Family",
    "FeatureEnhancementSettings",
    "InferenceSettings",
    "LinkSettings",
    "MixtureSettings",
    "NetworkSettings",
    "OptimizerSettings",
    "PictureSettings",
    "PretrainingSettings",
    "Recipe",
    "ScheduleSettings",
    "SemiSupervisedSettings",
    "SliceAugmentationSettings",
    "SliceSettings",
    "TwoStageSettings",
    "is_recipe_file",
    "list_recipes",
    "read_recipe",
]
