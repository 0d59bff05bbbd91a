"""When the next case is prepared while one is predicted."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmb_autoseg.inference import predict
from cmb_autoseg.inference.layouts import CaseResult
from cmb_autoseg.records import LesionTable

FINISHED = CaseResult(LesionTable(case="p1", lesions=[]), ())


def ready(n_voxels):
    return SimpleNamespace(prepared=SimpleNamespace(original=SimpleNamespace(data=np.broadcast_to(0.0, (n_voxels,)))))


def following(hd_bet=None):
    return SimpleNamespace(images={"swi": None, "qsm": None}, prep=SimpleNamespace(hd_bet=hd_bet))


@pytest.mark.parametrize(
    ("begun", "hd_bet", "free_bytes", "may"),
    [
        (ready(1000), None, 64_000, True),
        (ready(1000), None, 63_999, False),
        (ready(2**26 + 1), None, 10**12, False),
        (ready(1000), "network", 10**12, False),
        (FINISHED, None, 0, True),
        (FINISHED, "network", 10**12, False),
    ],
)
def test_what_fits_beside(monkeypatch, begun, hd_bet, free_bytes, may):
    monkeypatch.setattr(predict, "available_bytes", lambda: free_bytes)
    assert predict._may_begin_beside(begun, following(hd_bet)) == may
