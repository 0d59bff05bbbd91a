"""Which components are explained, and what they are called."""

import numpy as np

from cmb_autoseg.explanation import find_findings
from cmb_autoseg.geometry import Volume
from cmb_autoseg.pipeline.explaining import valdo_hits
from cmb_autoseg.records import OperatingPoint

POINT = OperatingPoint(name="half", threshold=0.5, rule="test")


def volume(**places):
    """1 mm voxels with values at single places: `volume(p05_05_05=0.9)`."""
    data = np.zeros((40, 40, 20), dtype=np.float32)
    for place, value in places.items():
        data[tuple(int(part) for part in place[1:].split("_"))] = value
    return Volume(data, np.diag([1.0, 1.0, 1.0, 1.0]))


def told(findings):
    return [(f.kind, f.lesion.lesion, round(f.lesion.prob_max, 2), f.reference) for f in findings]


PROBABILITY = {"p5_5_5": 0.7, "p20_20_10": 0.9, "p35_5_5": 0.3, "p5_35_5": 0.15, "p35_35_15": 0.05}


def test_without_a_reference_there_are_lesions_and_candidates():
    findings, left_out = find_findings("a", volume(**PROBABILITY), POINT, None, 6, valdo_hits)

    assert told(findings) == [
        ("lesion", 2, 0.9, None),
        ("lesion", 1, 0.7, None),
        ("candidate", 2, 0.3, None),
        ("candidate", 1, 0.15, None),
    ]
    assert findings[0].voxels.tolist() == [[20, 20, 10]]
    assert left_out == 0


def test_with_a_reference_they_are_hits_false_positives_and_missed():
    """The first reference lesion is hit from 3 mm away, the second is that of the candidate, the third unseen."""
    reference = volume(p5_5_8=1, p35_5_5=1, p12_30_3=1)

    findings, _ = find_findings("a", volume(**PROBABILITY), POINT, reference, 6, valdo_hits)

    assert told(findings) == [
        ("hit", 1, 0.7, 1),
        ("fp", 2, 0.9, None),
        ("missed", 3, 0.3, 3),
        ("missed", 2, 0.0, 2),
        ("candidate", 1, 0.15, None),
    ]


def test_what_surrounds_a_lesion_is_no_candidate():
    findings, _ = find_findings("a", volume(p5_5_5=0.9, p6_5_5=0.3, p7_5_5=0.2), POINT, None, 6, valdo_hits)

    assert told(findings) == [("lesion", 1, 0.9, None)]


def test_the_most_probable_of_each_kind_are_taken():
    findings, left_out = find_findings("a", volume(**PROBABILITY), POINT, volume(p12_30_3=1), 1, valdo_hits)

    assert told(findings) == [("fp", 2, 0.9, None), ("missed", 1, 0.0, 1), ("candidate", 2, 0.3, None)]
    assert left_out == 2


def test_an_empty_map_has_nothing_to_explain():
    assert find_findings("a", volume(), POINT, volume(), 6, valdo_hits) == ((), 0)
