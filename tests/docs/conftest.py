"""The simulator's small scanner for whole modules, so that a documented run takes seconds."""

import pytest

from ..simulation.conftest import TINY, draw_few_vessels, make_phantom_template


@pytest.fixture(scope="module")
def small_recipes():
    """Recipes keep their names; a network of two levels, one validation step, and prediction as `demo` does it."""
    from cmb_autoseg.trainers import recipe

    read = recipe.read_recipe
    network = recipe.NetworkSettings(features=(4, 8))
    inference = recipe.InferenceSettings(mirror=(), tile_step=0.7)
    changes = {"network": network, "validation_steps": 1, "batch_size": 1, "inference": inference}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "read_recipe", lambda wanted: read(wanted).model_copy(update=changes))
        yield


@pytest.fixture(scope="module")
def small_scanner():
    """`cmb_simulate --protocol small` scans a phantom on a small grid."""
    from cmb_autoseg.simulation.protocols import PROTOCOLS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmb_autoseg.simulation.anatomy.mni152.load_mni152", make_phantom_template)
        patch.setitem(PROTOCOLS, "small", TINY)
        draw_few_vessels(patch)
        yield
