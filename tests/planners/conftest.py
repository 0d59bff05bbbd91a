import numpy as np
import pytest

from cmb_autoseg.records import CaseFingerprint, Fingerprint, IntensityRange, LesionSize, Role


def case(name, spacing=(2.0, 1.0, 1.0), shape=(20, 64, 64), diameters=(), subject=None, roles=(Role.SWI,), **more):
    return CaseFingerprint(
        case=name,
        cohort=more.pop("cohort", "A"),
        subject=subject or name,
        labelled=more.pop("labelled", True),
        sequences=roles,
        shape=shape,
        spacing_mm=spacing,
        box_start=(0, 0, 0),
        box_stop=shape,
        brain_volume_ml=1000.0,
        intensity={role: IntensityRange(mean=1, std=1, p01=0, p99=2) for role in roles},
        lesions=tuple(
            LesionSize(
                lesion=i, x_mm=1.0, y_mm=2.0, z_mm=3.0, slices=1, voxels=5, volume_mm3=np.pi / 6 * d**3, diameter_mm=d
            )
            for i, d in enumerate(diameters, 1)
        ),
    )


@pytest.fixture
def measured():
    def build(*cases, roles=(Role.SWI,)):
        return Fingerprint(dataset="Dataset501_A", roles=roles, cases=cases)

    return build


@pytest.fixture
def make_case():
    return case
