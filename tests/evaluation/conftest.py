from collections.abc import Callable

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume


@pytest.fixture
def phantom() -> Callable[..., Volume]:
    """Build a small mask from boxes given as index expressions."""

    def build(*boxes, value=1.0, affine=None, shape=(20, 20, 20), name="phantom"):
        data = np.zeros(shape, dtype=np.float32)
        for box in boxes:
            data[box] = value
        return Volume(data, np.eye(4) if affine is None else affine, None, name)

    return build
