"""Rules one by one: what changes a verdict, and what does not."""

import base64

import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.quality_control.case_rules import case_findings
from cmb_autoseg.quality_control.findings import CohortCase
from cmb_autoseg.quality_control.fingerprints import standardized
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Role

from .faults import measured
from .heads import make_head


@pytest.fixture(scope="module")
def head():
    return measured(make_head(900, lesions=3))


def changed(case, role=Role.SWI, name=None, pixels=None, **figures) -> CohortCase:
    """The case with other figures of one sequence."""
    sequence = case.quality.sequences[role].model_copy(update=figures)
    sequences = {
        r: s.model_copy(update={"pixels": f"{name}{r}" if name else s.pixels})
        for r, s in {**case.quality.sequences, role: sequence}.items()
    }
    quality = case.quality.model_copy(update={"sequences": sequences})
    return case.model_copy(update={"case": name or case.case, "subject": name or case.subject, "quality": quality})


def verdict(case, **settings):
    return judge([case], QualitySettings(**settings))[0]


def test_a_good_scan_passes_without_reasons(head):
    found = verdict(head)

    assert (found.verdict, found.findings, found.reasons) == ("pass", (), "")


@pytest.mark.parametrize(
    ("figures", "level", "words"),
    [
        ({"clipped_high": 0.01}, "review", "1 % of the brain has the largest value: clipped; review above 0.5 %"),
        ({"clipped_high": 0.3}, "fail", "fail above 20 %"),
        ({"nonfinite": 0.001}, "review", "0.1 % of voxels are NaN"),
        ({"snr": 1.5}, "fail", "SNR 1.5; fail below 2"),
        ({"grey_levels": 12}, "review", "only 12 grey values"),
        ({"repeated_slices": 2}, "review", "2 slices equal their neighbors"),
        ({"ghost": 0.2}, "review", "ghosts; review above 12 %"),
    ],
)
def test_each_limit_gives_its_verdict_with_number_and_threshold(head, figures, level, words):
    found = verdict(changed(head, **figures))

    assert found.verdict == level
    assert words in found.reasons


def test_limits_of_the_card_count(head):
    spoilt = changed(head, clipped_high=0.01)

    assert verdict(spoilt, clipped_high=(0.02, 0.2)).verdict == "pass"
    assert verdict(spoilt, clipped_high=(0.001, 0.005)).verdict == "fail"


def test_limits_out_of_order_are_refused():
    with pytest.raises(InputError, match=r"snr: \[2, 5\] must fall"):
        QualitySettings.parse({"snr": [2, 5]}, "card.yaml: qc")
    with pytest.raises(InputError, match="clipped_high"):
        QualitySettings.parse({"clipped_high": [0.5, 0.1]}, "card.yaml: qc")


def test_a_fault_of_half_the_protocol_is_a_note(head):
    slab = head.quality.brain.model_copy(update={"coverage": 0.3, "cut_mm": {"top": 70.0}})
    cut = head.model_copy(update={"quality": head.quality.model_copy(update={"brain": slab})})
    cases = [
        changed(cut if n < 6 else head, name=f"c{n}", thumbnail=head.quality.sequences[Role.SWI].thumbnail)
        for n in range(10)
    ]

    alone = judge(cases[:1])[0]
    among = {v.case: v for v in judge(cases)}

    assert alone.verdict == "fail"
    assert [f.level for f in among["c0"].findings if f.rule == "coverage"] == ["note"]
    assert "as in most scans of its protocol" in among["c0"].reasons


def test_the_same_pixels_under_two_names_fail_on_both_sides(head):
    twin = head.model_copy(update={"case": "twin", "subject": "other"})

    verdicts = judge([head, twin])

    assert [v.verdict for v in verdicts] == ["fail", "fail"]
    assert "swi: the same pixels as twin's swi, said to be another person" in verdicts[0].reasons


def test_copies_are_found_across_cohorts(head):
    twin = head.model_copy(update={"case": "twin", "cohort": "SOUTH"})

    assert {v.verdict for v in judge([head, twin], {"NORTH": QualitySettings(), "SOUTH": QualitySettings()})} == {
        "fail"
    }


def test_two_sessions_of_one_person_may_look_alike_but_not_two_people(head):
    scan = make_head(900, lesions=3)
    rng = np.random.default_rng(0)
    for role, volume in scan.volumes.items():
        scan = scan.with_volume(role, volume.data + rng.normal(0, 0.02 * np.ptp(volume.data), volume.shape))
    again = measured(scan).model_copy(update={"case": "again"})

    one_person = judge([head, again])
    two_people = judge([head, again.model_copy(update={"subject": "other"})])

    assert [v.verdict for v in one_person] == ["pass", "pass"]
    assert [v.verdict for v in two_people] == ["review", "review"]
    assert "a changed copy of again's swi" in two_people[0].reasons


def test_a_rare_voxel_size_is_told_but_not_in_a_mixed_cohort(head):
    def geometry(case):
        return [f for f in case.findings if f.rule == "voxel size"]

    usual = [changed(head, name=f"c{n}") for n in range(19)]
    odd = changed(head, name="odd", spacing_mm=(1.0, 1.0, 1.0))
    mixed = [changed(head, name=f"m{n}", spacing_mm=(1.0 + n, 1.0, 1.0)) for n in range(8)]

    assert len(geometry(judge([*usual, odd])[-1])) == 1
    assert not any(geometry(v) for v in judge([*usual, *mixed]))


def test_outliers_need_a_cohort(head):
    cases = [changed(head, name=f"c{n}", snr=20.0 + n / 10) for n in range(9)]
    odd = changed(head, name="odd", snr=7.0)

    assert "SNR 7" in judge([*cases, odd])[-1].reasons
    assert "SNR 7" not in judge([*cases[:4], odd])[-1].reasons


def test_a_somewhat_unlike_scan_passes_beside_faulty_ones(head):
    rng = np.random.default_rng(5)
    common, own = (standardized(part.reshape(16, 16, 16)) for part in rng.normal(size=(2, 16**3)))

    def scan(name, picture):
        whole = picture + rng.normal(0, 0.1, picture.shape) / np.sqrt(picture.size)
        thumbnail = base64.b64encode(np.rint(127 * whole / np.abs(whole).max()).astype(np.int8).tobytes()).decode()
        return changed(head, name=name, thumbnail=thumbnail)

    def unlike(likeness):
        return likeness * common + np.sqrt(1 - likeness**2) * own

    cases = [
        *(scan(f"clean{n}", common) for n in range(18)),
        scan("somewhat", unlike(0.85)),
        scan("very", unlike(0.75)),
        *(scan(f"faulty{n}", -common) for n in range(6)),
    ]

    told = {v.case for v in judge(cases) if any(f.rule == "look" and f.role is Role.SWI for f in v.findings)}

    assert told == {"very", *(f"faulty{n}" for n in range(6))}


def with_contrasts(case, *contrasts, role=Role.SWI):
    """The measures of a case whose label has lesions of such contrasts."""
    lesion = case.quality.label.lesions[0]
    lesions = tuple(lesion.model_copy(update={"contrast": {role: value}}) for value in contrasts)
    return case.quality.model_copy(
        update={"label": case.quality.label.model_copy(update={"lesions": lesions, "contrast_elsewhere": {}})}
    )


@pytest.mark.parametrize(
    ("contrasts", "level", "words"),
    [
        ((-4.0, -4.0, -4.0), "fail", "3 of 3 lesions are clearly bright in swi (contrast below -1.5): inverted"),
        ((-4.0, -4.0, -4.0, -2.0, 3.0, 3.0), "fail", "4 of 6 lesions are clearly bright in swi"),
        ((-4.0, -4.0, -4.0, 3.0, 3.0), "review", "3 of 5 lesions are not dark in swi"),
        ((-4.0, -4.0), "review", "2 of 2 lesions are not dark in swi"),
        ((-1.0, 0.0, 1.0), "review", "3 of 3 lesions are not dark in swi"),
    ],
)
def test_labels_of_wrong_polarity_fail_by_many_lesions_alone(head, contrasts, level, words):
    found = case_findings(with_contrasts(head, *contrasts), QualitySettings())

    assert [(f.rule, f.level) for f in found] == [("label contrast", level)]
    assert words in found[0].text


def test_wrong_polarity_can_be_left_to_review(head):
    spoilt = with_contrasts(head, -4.0, -4.0, -4.0)

    assert [f.level for f in case_findings(spoilt, QualitySettings(lesions_inverse=1.0))] == ["review"]


def test_inverse_lesions_on_qsm_are_dark(head):
    found = case_findings(with_contrasts(head, -4.0, -4.0, -4.0, role=Role.QSM), QualitySettings())

    assert "3 of 3 lesions are clearly dark in qsm" in found[0].text


@pytest.mark.parametrize(("count", "whole", "level"), [(3, 0, "note"), (2, 0, "fail"), (4, 1, "fail")])
def test_coverage_that_all_of_a_small_cohort_lack_is_how_it_was_scanned(head, count, whole, level):
    slab = head.quality.brain.model_copy(update={"coverage": 0.3, "cut_mm": {"top": 70.0}})
    cut = head.model_copy(update={"quality": head.quality.model_copy(update={"brain": slab})})
    cases = [changed(head if n < whole else cut, name=f"c{n}") for n in range(count)]

    last = judge(cases)[-1]

    assert [f.level for f in last.findings if f.rule == "coverage"] == [level]
