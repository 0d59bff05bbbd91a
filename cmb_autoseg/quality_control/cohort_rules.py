"""Rules that compare a case with the others of its cohort and protocol."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.quality_control.case_quality import CaseQuality, SequenceQuality
from cmb_autoseg.quality_control.findings import CohortCase, Finding
from cmb_autoseg.quality_control.fingerprints import TURNS, Turn, decode_thumbnail, standardized, turned
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

__all__ = ["Protocol", "cohort_findings", "protocol_of"]

Protocol = tuple[tuple[Role, tuple[float, ...], str], ...]
MAD_TO_SD = 1.4826
MOST_RARE = 0.15
"""Where more of a cohort's cases than this have rare protocols, it is a mixed cohort, and rare is no fault."""
LEFT_RIGHT: Turn = ((0, 1, 2), (-1, 1, 1))
SPACING_STEP = 0.05
"""Voxel sizes that differ by less than this share are one protocol's."""


@dataclass(frozen=True)
class Measure:
    """A figure that is compared between the cases of one protocol."""

    name: str
    read: Callable[[SequenceQuality], float | None]
    least: float
    """Smaller differences from the median are no matter, however alike the others are."""
    words: tuple[str, str]
    """What it means when it is smaller, and when it is larger; empty where that is no fault."""
    logarithm: bool = False


MEASURES = (
    Measure("SNR", lambda s: s.snr, math.log(1.6), ("noisy", ""), True),
    Measure("noise over spread", lambda s: s.noise, math.log(1.7), ("smoothed, or fine detail lost", "noisy"), True),
    Measure("SNR in air", lambda s: s.snr_air, math.log(2.0), ("noise or ghosts in the air", ""), True),
    Measure("signal in the air beside the head", lambda s: s.ghost, 0.015, ("", "ghosts or motion")),
    Measure("contrast", lambda s: s.contrast, math.log(1.6), ("flat", "strange contrast"), True),
    Measure("spread", lambda s: s.spread, math.log(6.0), ("other scale", "other scale"), True),
    Measure("ripple", lambda s: s.ripple, 0.35, ("motion or ghosts along j", "motion or ghosts along i")),
    Measure("skewness of detail", lambda s: s.detail_skew, 1.0, ("vessels too dark", "vessels too bright")),
    Measure("sharpness", lambda s: s.sharpness, math.log(1.6), ("blurred", "ringing, noise or spikes"), True),
    Measure("brightness step between slices", lambda s: s.slice_jump, 0.12, ("", "a slice stands out")),
    Measure("mismatch of neighboring slices", lambda s: s.slice_mismatch, 0.2, ("", "a slice does not fit")),
    Measure("5th percentile", lambda s: abs(s.quantiles[1]), math.log(2.5), ("odd grey values", "odd grey values"), True),
    Measure("25th percentile", lambda s: s.quantiles[2], 0.3, ("odd grey values", "odd grey values")),
    Measure("95th percentile", lambda s: abs(s.quantiles[4]), math.log(2.5), ("odd grey values", "odd grey values"), True),
)


def protocol_of(quality: CaseQuality) -> Protocol:
    """What tells protocols apart: the sequences, and voxel size (to 5 %) and orientation of each."""
    return tuple(
        (
            role,
            tuple(round(math.log(mm) / math.log(1 + SPACING_STEP)) for mm in sequence.spacing_mm),
            sequence.orientation,
        )
        for role, sequence in sorted(quality.sequences.items())
    )


def cohort_findings(cases: Sequence[CohortCase], settings: QualitySettings) -> dict[str, list[Finding]]:
    """Outliers among the cases of one cohort, by case."""
    found: dict[str, list[Finding]] = defaultdict(list)
    for case, finding in _findings(cases, settings):
        found[case.case].append(finding)
    return found


def _findings(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    roles = sorted({role for case in cases for role in case.quality.sequences})
    for role in roles:
        having = [case for case in cases if role in case.quality.sequences]
        yield from _rare_geometry(having, role, settings)
        for group in _groups(having, role, settings):
            yield from _outliers(group, role, settings)
    yield from _looks(cases, settings)
    yield from _sizes(cases, settings)
    yield from _pair_outliers(cases, settings)


def _geometry(sequence: SequenceQuality) -> tuple[object, ...]:
    sizes = tuple(round(math.log(mm) / math.log(1 + SPACING_STEP)) for mm in sequence.spacing_mm)
    return sizes, sequence.orientation


def _groups(cases: Sequence[CohortCase], role: Role, settings: QualitySettings) -> list[list[CohortCase]]:
    """Cases of one protocol of one sequence; protocols that are too rare are compared with all."""
    by_geometry: dict[object, list[CohortCase]] = defaultdict(list)
    for case in cases:
        by_geometry[_geometry(case.quality.sequences[role])].append(case)
    return [group for group in by_geometry.values() if len(group) >= settings.min_cohort]


def _rare_geometry(
    cases: Sequence[CohortCase], role: Role, settings: QualitySettings
) -> Iterator[tuple[CohortCase, Finding]]:
    """Voxel sizes and orientations that hardly any other case has, unless the cohort is a mixture anyway."""
    if len(cases) < settings.min_cohort:
        return
    looks: tuple[tuple[str, Callable[[SequenceQuality], object], Callable[[SequenceQuality], str]], ...] = (
        ("voxel size", lambda s: _geometry(s)[0], lambda s: " x ".join(f"{mm:.3g}" for mm in s.spacing_mm) + " mm"),
        ("orientation", lambda s: s.orientation, lambda s: s.orientation),
    )
    for name, key, show in looks:
        counts = Counter(key(case.quality.sequences[role]) for case in cases)
        rare = {value for value, count in counts.items() if count <= max(1, settings.rare_protocol_share * len(cases))}
        usual = counts.most_common(1)[0][0]
        if not rare or sum(counts[value] for value in rare) > MOST_RARE * len(cases):
            continue
        example = next(s for s in (case.quality.sequences[role] for case in cases) if key(s) == usual)
        for case in cases:
            sequence = case.quality.sequences[role]
            if key(sequence) in rare:
                text = (
                    f"{role}: {name} {show(sequence)}, as in {counts[key(sequence)]} of {len(cases)} cases of the "
                    f"cohort; most have {show(example)}"
                )
                yield case, Finding(rule=name, level="review", text=text, role=role)


def _outliers(
    group: Sequence[CohortCase], role: Role, settings: QualitySettings
) -> Iterator[tuple[CohortCase, Finding]]:
    for measure in MEASURES:
        values = {case.case: measure.read(case.quality.sequences[role]) for case in group}
        for case, text in _far(group, values, measure, settings):
            yield case, Finding(rule="outlier", level="review", text=f"{role}: {text}", role=role)


def _far(
    group: Sequence[CohortCase], values: Mapping[str, float | None], measure: Measure, settings: QualitySettings
) -> Iterator[tuple[CohortCase, str]]:
    """The cases whose value lies far from the median of the group, with the reason."""
    known = {
        name: (math.log(max(value, 1e-9)) if measure.logarithm else value)
        for name, value in values.items()
        if value is not None
    }
    if len(known) < settings.min_cohort:
        return
    array = np.array(list(known.values()))
    middle = float(np.median(array))
    scale = max(MAD_TO_SD * float(np.median(np.abs(array - middle))), measure.least / settings.outlier_z)
    for case in group:
        if case.case not in known:
            continue
        difference = known[case.case] - middle
        word = measure.words[difference > 0]
        z = difference / scale
        if word and abs(z) > settings.outlier_z and abs(difference) > measure.least:
            usual = math.exp(middle) if measure.logarithm else middle
            text = (
                f"{measure.name} {values[case.case]:.3g}, {usual:.3g} in {len(known)} cases of the protocol (robust z "
                f"{z:.1f}; review beyond {settings.outlier_z:g}): {word}"
            )
            yield case, text


def _sizes(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    """Brains of another size or shape than the cohort's, as wrong voxel sizes and cut scans have them."""
    masked = [case for case in cases if case.quality.brain is not None]
    readers: tuple[tuple[str, Callable[[CaseQuality], float | None], float], ...] = (
        ("brain volume", lambda q: q.brain and q.brain.volume_ml, math.log(1.35)),
        ("width of the brain", lambda q: q.brain and q.brain.extent_mm[0], math.log(1.18)),
        ("length of the brain", lambda q: q.brain and q.brain.extent_mm[1], math.log(1.18)),
        ("height of the brain", lambda q: q.brain and q.brain.extent_mm[2], math.log(1.18)),
    )
    groups: dict[object, list[CohortCase]] = defaultdict(list)
    for case in masked:
        groups[_geometry(case.quality.sequences[case.quality.reference])].append(case)
    for group in [group if len(group) >= settings.min_cohort else masked for group in groups.values()]:
        for name, read, least in readers:
            measure = Measure(name, lambda _: None, least, ("too small", "too large"), True)
            for case, text in _far(group, {case.case: read(case.quality) for case in group}, measure, settings):
                yield case, Finding(rule="brain size", level="review", text=text)


def _pair_outliers(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    roles = sorted({role for case in cases for role in case.quality.pairs})
    for role in roles:
        having = [case for case in cases if role in case.quality.pairs]
        for group in _groups(having, role, settings):
            for name, read, least in (
                ("agreement of edges", lambda pair: pair.match, math.log(1.12)),
                ("mutual information", lambda pair: pair.information - 1, math.log(1.5)),
            ):
                measure = Measure(name, lambda _: None, least, ("another head, or displaced", ""), True)
                values = {case.case: read(case.quality.pairs[role]) for case in group}
                for case, text in _far(group, values, measure, settings):
                    full = f"{role} on {case.quality.reference}: {text}"
                    yield case, Finding(rule="match", level="review", text=full, role=role)


def _looks(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    """Scans that look like another sequence, or turned, or like none of the others."""
    pictures: dict[Role, dict[str, NDArray[np.float32]]] = defaultdict(dict)
    for case in cases:
        for role, sequence in case.quality.sequences.items():
            pictures[role][case.case] = decode_thumbnail(sequence.thumbnail)
    usual = {
        role: standardized(np.median([picture / 127 for picture in shown.values()], axis=0))
        for role, shown in pictures.items()
        if len(shown) >= settings.min_cohort
    }
    for role, template in usual.items():
        likeness = {name: float(standardized(picture) @ template) for name, picture in pictures[role].items()}
        others = {other: vector for other, vector in usual.items() if other is not role}
        for case in cases:
            if case.case not in likeness:
                continue
            yield from _look(case, role, pictures[role][case.case], template, others, settings)
        measure = Measure("likeness to the cohort's mean", lambda _: None, 0.12, ("unlike the others", ""))
        for case, text in _far([c for c in cases if c.case in likeness], dict(likeness), measure, settings):
            yield case, Finding(rule="look", level="review", text=f"{role}: {text}", role=role)


def _look(
    case: CohortCase,
    role: Role,
    picture: NDArray[np.float32],
    template: NDArray[np.float32],
    others: Mapping[Role, NDArray[np.float32]],
    settings: QualitySettings,
) -> Iterator[tuple[CohortCase, Finding]]:
    vector = standardized(picture)
    own = float(vector @ template)
    compared = {other: float(vector @ mean) for other, mean in others.items()}
    best = max(compared, key=lambda other: compared[other], default=None)
    if best is not None and compared[best] > own + settings.likeness_margin:
        text = f"{role}: looks like {best} (correlation with the cohort's mean {compared[best]:.2f}, with {role} {own:.2f})"
        yield case, Finding(rule="sequence", level="review", text=text, role=role)
        return
    turns = {turn: float(standardized(turned(picture, turn)) @ template) for turn in TURNS[1:] if turn != LEFT_RIGHT}
    turn = max(turns, key=lambda key: turns[key])
    if turns[turn] > own + settings.likeness_margin:
        text = (
            f"{role}: looks turned or mirrored (axes {turn[0]} with signs {turn[1]} correlate {turns[turn]:.2f} with the "
            f"cohort's mean, as it is {own:.2f}): is its header right"
        )
        yield case, Finding(rule="orientation", level="review", text=text, role=role)
