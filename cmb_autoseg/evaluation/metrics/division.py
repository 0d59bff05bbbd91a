"""Division where an empty whole gives no value."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["divided"]


def divided(above: NDArray[np.float64], below: NDArray[np.float64], otherwise: float = np.nan) -> NDArray[np.float64]:
    """`above / below`, shapes as NumPy broadcasts them; `otherwise` where `below` is not above 0."""
    ratio = np.full(np.broadcast_shapes(above.shape, below.shape), otherwise)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio
