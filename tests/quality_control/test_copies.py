"""Copies are found by a shortcut; it gives what turning and comparing every pair gives."""

import base64
import time
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.quality_control import copies
from cmb_autoseg.quality_control.copies import SAME_PERSON, copy_findings
from cmb_autoseg.quality_control.fingerprints import SIDE, decode_thumbnail, fine_detail, standardized, turned
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

from .faults import measured
from .heads import make_head

FLIPS = [((0, 1, 2), signs) for signs in product((1, -1), repeat=3)]


@pytest.fixture(scope="module")
def head():
    return measured(make_head(900, lesions=3))


def pictures(count, seed=0):
    """Smooth heads of one make, of which every fifth is the one before it: noisy, and flipped in turn."""
    rng = np.random.default_rng(seed)
    shape = (SIDE, SIDE, SIDE)
    common = ndimage.gaussian_filter(rng.normal(size=shape), 1)
    made = []
    for n in range(count):
        if n % 5 == 4:
            flipped = turned(made[-1], FLIPS[n // 5 % 8])
            made.append(flipped + rng.normal(0, 0.05 * (n // 5 % 4) * flipped.std(), shape))
        else:
            made.append(common + ndimage.gaussian_filter(rng.normal(size=shape), 1))
    return made


def cohort(head, made):
    """A case of each picture, by its SWI alone."""
    sequence = head.quality.sequences[Role.SWI]
    cases = []
    for n, picture in enumerate(made):
        scaled = np.rint(np.clip(127 * picture / np.abs(picture).max(), -127, 127)).astype(np.int8)
        thumbnail = base64.b64encode(scaled.tobytes()).decode()
        swi = sequence.model_copy(update={"pixels": f"p{n}", "thumbnail": thumbnail})
        quality = head.quality.model_copy(update={"sequences": {Role.SWI: swi}})
        # Every third two cases are one person's.
        cases.append(head.model_copy(update={"case": f"c{n}", "subject": f"s{n - (n % 3 == 1)}", "quality": quality}))
    return cases


def slowly(cases, threshold):
    """Every pair in every flip, one by one, from either side: the flip, the pair and the correlation."""
    details = [fine_detail(decode_thumbnail(case.quality.sequences[Role.SWI].thumbnail)) for case in cases]
    vectors = np.stack([standardized(detail) for detail in details])
    found = {}
    for number, flip in enumerate(FLIPS):
        products = vectors @ np.stack([standardized(turned(detail, flip)) for detail in details]).T
        found.update({(number, *map(int, at)): float(products[tuple(at)]) for at in np.argwhere(products >= threshold)})
    return found


@pytest.mark.parametrize("chunk", [7, 1024])
def test_pairs_and_correlations_are_those_of_the_slow_way(head, monkeypatch, chunk):
    monkeypatch.setattr(copies, "CHUNK", chunk)
    cases = cohort(head, pictures(40))
    thumbnails = [case.quality.sequences[Role.SWI].thumbnail for case in cases]

    for threshold in (0.45, 0.93):
        wanted = slowly(cases, threshold)
        found = {(flip, row, column): value for flip, row, column, value in copies._agreeing(thumbnails, threshold)}
        assert found.keys() == wanted.keys()
        assert [found[key] for key in wanted] == pytest.approx(list(wanted.values()), abs=1e-5)
        assert {flip for flip, row, column in wanted if row != column} == set(range(8))


def test_each_pair_is_told_once_by_its_first_flip(head):
    cases = cohort(head, pictures(40))
    alike = {}
    for (flip, row, column), value in sorted(slowly(cases, 0.93).items()):
        if row != column and (cases[row].subject != cases[column].subject or value >= SAME_PERSON):
            alike.setdefault((cases[row].case, cases[column].case), flip)

    found = copy_findings(cases, QualitySettings())

    told = {
        (name, text.split(" copy of ")[1].split("'s")[0]): "mirrored" in text
        for name, findings in found.items()
        for text in (finding.text for finding in findings)
    }
    assert told == {pair: flip > 0 for pair, flip in alike.items()}
    assert 0 < sum(told.values()) < len(told)


def test_two_thousand_cases_take_a_few_seconds(head):
    cases = cohort(head, pictures(100) * 20)
    cases = [case.model_copy(update={"subject": "one"}) for case in cases]
    started = time.process_time()

    copy_findings(cases, QualitySettings(duplicate_correlation=1.0))

    assert time.process_time() - started < 10
