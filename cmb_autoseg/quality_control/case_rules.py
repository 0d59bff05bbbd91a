"""Rules that need one case alone."""

from collections.abc import Iterator

from cmb_autoseg.quality_control.case_quality import (
    SIGNED_ROLES,
    BrainQuality,
    CaseQuality,
    LabelQuality,
    SequenceQuality,
)
from cmb_autoseg.quality_control.findings import Finding, Level
from cmb_autoseg.quality_control.settings import Limits, QualitySettings
from cmb_autoseg.records import Role

__all__ = ["case_findings"]

SIGN_SHARE = 0.05
"""A signed map has at least this share of its spread on either side of 0."""
CLEARLY_DARK = 3.0
"""Contrast from which a displaced label is taken to fit."""
FEWEST_INVERSE = 3
"""Lesions of the wrong polarity; one or two may be marks of something else."""
FEWEST_FOR_DISPLACEMENT = 2
"""Lesions; a single one may fall on a vein when the label is mirrored."""


def case_findings(quality: CaseQuality, settings: QualitySettings) -> list[Finding]:
    """All that can be said of a case without others to compare it with."""
    findings = [] if quality.brain is None else list(_brain(quality.brain, settings))
    for role, sequence in quality.sequences.items():
        findings += _sequence(role, sequence, settings)
    for role, pair in quality.pairs.items():
        level = _below(pair.overlap, settings.sequence_overlap)
        if level:
            text = f"{role}: covers {pair.overlap:.0%} of the brain in {quality.reference}"
            findings.append(_finding("overlap", level, text, settings.sequence_overlap, "below", role, percent=True))
        level = _below(pair.match, settings.sequence_match)
        if level:
            text = (
                f"{role}: its edges fit those of {quality.reference} no better than displaced ones ({pair.match:.2f})"
            )
            findings.append(_finding("match", level, text, settings.sequence_match, "below", role))
    if quality.label is not None:
        findings += _label(quality, quality.label, settings)
    return findings


def _above(value: float | None, limits: Limits) -> Level | None:
    if value is None or value <= limits[0]:
        return None
    return "fail" if value > limits[1] else "review"


def _below(value: float | None, limits: Limits) -> Level | None:
    if value is None or value >= limits[0]:
        return None
    return "fail" if value < limits[1] else "review"


def _finding(
    rule: str, level: Level, text: str, limits: Limits, side: str, role: Role | None = None, percent: bool = False
) -> Finding:
    limit = limits[level == "fail"]
    shown = f"{100 * limit:g} %" if percent else f"{limit:g}"
    return Finding(rule=rule, level=level, text=f"{text}; {level} {side} {shown}".replace("%;", " %;"), role=role)


def _brain(brain: BrainQuality, settings: QualitySettings) -> Iterator[Finding]:
    level = _below(brain.coverage, settings.coverage)
    if level:
        worst = max(brain.cut_mm, key=lambda side: brain.cut_mm[side])
        text = (
            f"coverage {brain.coverage:.0%}: the brain ends abruptly, about {brain.cut_mm[worst]:.0f} mm before its "
            f"{worst} end"
        )
        yield _finding("coverage", level, text, settings.coverage, "below", percent=True)
    level = _below(brain.volume_ml, settings.brain_volume_ml)
    if level:
        text = f"brain mask of {brain.volume_ml:.0f} ml, less than a brain has"
        yield _finding("brain volume", level, text, settings.brain_volume_ml, "below")
    level = _above(brain.volume_ml, settings.brain_volume_max_ml)
    if level:
        text = f"brain mask of {brain.volume_ml:.0f} ml, more than a head has"
        yield _finding("brain volume", level, text, settings.brain_volume_max_ml, "above")


def _sequence(role: Role, found: SequenceQuality, settings: QualitySettings) -> Iterator[Finding]:
    rising: tuple[tuple[str, float | None, Limits, str, bool], ...] = (
        ("not a number", found.nonfinite, settings.nonfinite, f"{100 * found.nonfinite:.3g} % of voxels are NaN", True),
        (
            *("clipped", found.clipped_high, settings.clipped_high),
            *(f"{100 * found.clipped_high:.3g} % of the brain has the largest value: clipped", True),
        ),
        (
            *("clipped", found.clipped_low, settings.clipped_low),
            *(f"{100 * found.clipped_low:.3g} % of the brain has the smallest value: cut off", True),
        ),
        (
            *("ghost", found.ghost, settings.ghost),
            *(f"{100 * (found.ghost or 0):.3g} % of the brain's signal lies in the air beside the head: ghosts", True),
        ),
        (
            *("slices", found.slice_jump, settings.slice_jump),
            *(f"a slice differs from its neighbors by {100 * (found.slice_jump or 0):.0f} % of the brightness", True),
        ),
        (
            "slices",
            found.empty_slices,
            settings.empty_slices,
            f"{found.empty_slices} slices hold a single value",
            False,
        ),
        (
            *("slices", found.repeated_slices, settings.repeated_slices),
            *(f"{found.repeated_slices} slices equal their neighbors", False),
        ),
    )
    for rule, value, limits, text, percent in rising:
        level = _above(value, limits)
        if level:
            yield _finding(rule, level, f"{role}: {text}", limits, "above", role, percent)
    level = _below(found.grey_levels, settings.grey_levels)
    if level:
        text = f"{role}: only {found.grey_levels} grey values in the brain"
        yield _finding("grey values", level, text, settings.grey_levels, "below", role)
    level = _below(found.snr, settings.snr)
    if level:
        yield _finding("noise", level, f"{role}: SNR {found.snr:.1f}", settings.snr, "below", role)
    yield from _sign(role, found)


def _sign(role: Role, found: SequenceQuality) -> Iterator[Finding]:
    """Susceptibility lies on both sides of 0, magnitudes do not; phase may be stored from 0 on."""
    low, high = (found.median + found.spread * found.quantiles[n] for n in (0, -1))
    both = low < -SIGN_SHARE * found.spread and high > SIGN_SHARE * found.spread
    if role is Role.QSM and not both:
        text = f"{role}: values from {low:.3g} to {high:.3g} all on one side of 0: a magnitude image, not {role}"
        yield Finding(rule="sequence", level="review", text=text, role=role)
    if role not in SIGNED_ROLES and found.median < 0.5 * found.spread and low < -SIGN_SHARE * found.spread:
        text = f"{role}: values from {low:.3g} to {high:.3g} around 0: a phase or susceptibility map, not {role}"
        yield Finding(rule="sequence", level="review", text=text, role=role)


def _label(quality: CaseQuality, label: LabelQuality, settings: QualitySettings) -> Iterator[Finding]:
    if not label.lesions:
        return
    level = _above(label.outside_brain, settings.label_outside_brain)
    if level:
        text = f"label: {label.outside_brain:.0%} of its voxels lie outside the brain"
        yield _finding("label outside brain", level, text, settings.label_outside_brain, "above", percent=True)
    largest = max(lesion.diameter_mm for lesion in label.lesions)
    level = _above(largest, settings.lesion_diameter_mm)
    if level:
        text = f"label: a lesion of {largest:.1f} mm"
        yield _finding("lesion size", level, text, settings.lesion_diameter_mm, "above")
    yield from _darkness(quality, label, settings)


def _darkness(quality: CaseQuality, label: LabelQuality, settings: QualitySettings) -> Iterator[Finding]:
    expected = "bright" if quality.reference is Role.QSM else "dark"
    for role in dict.fromkeys(role for lesion in label.lesions for role in lesion.contrast):
        contrasts = [lesion.contrast[role] for lesion in label.lesions if role in lesion.contrast]
        pale = sum(value < settings.lesion_contrast for value in contrasts)
        inverse = sum(value < -settings.lesion_contrast for value in contrasts)
        level = _above(pale / len(contrasts), settings.lesions_not_dark)
        if inverse >= FEWEST_INVERSE and inverse > settings.lesions_inverse * len(contrasts):
            text = (
                f"label: {inverse} of {len(contrasts)} lesions are clearly {'dark' if role is Role.QSM else 'bright'} "
                f"in {role} (contrast below {-settings.lesion_contrast:g}): inverted contrast, or a label of another "
                f"scan; fail above {100 * settings.lesions_inverse:g} %"
            )
            yield Finding(rule="label contrast", level="fail", text=text, role=role)
        elif level:
            wanted = "bright" if role is Role.QSM else "dark"
            why = (
                "inverted contrast, or a label of another scan"
                if 2 * inverse > len(contrasts)
                else "is it of this scan"
            )
            text = (
                f"label: {pale} of {len(contrasts)} lesions are not {wanted} in {role} (contrast below "
                f"{settings.lesion_contrast:g}): {why}"
            )
            yield _finding("label contrast", level, text, settings.lesions_not_dark, "above", role, percent=True)
    if label.contrast is None or len(label.lesions) < FEWEST_FOR_DISPLACEMENT or not label.contrast_elsewhere:
        return
    how, best = max(label.contrast_elsewhere.items(), key=lambda item: item[1])
    if best > CLEARLY_DARK and best > 2 * max(label.contrast, 0.5):
        verb = "moved by some voxels" if how == "moved" else f"mirrored {how}"
        text = (
            f"label: {expected} places fit it better when it is {verb} (contrast {best:.1f}, as it is "
            f"{label.contrast:.1f})"
        )
        yield Finding(rule="label place", level="review", text=text)
