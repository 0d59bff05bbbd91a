"""Rules that compare a case with the others of its cohort and protocol."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmb_autoseg.quality_control.case_quality import BrainQuality, CaseQuality, PairQuality, SequenceQuality
from cmb_autoseg.quality_control.findings import CohortCase, Finding
from cmb_autoseg.quality_control.fingerprints import (
    TURNS,
    Picture,
    Turn,
    decode_thumbnail,
    inner,
    standardized,
    turned_back,
)
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

__all__ = ["Protocol", "cohort_findings", "protocol_of"]

Protocol = tuple[tuple[Role, tuple[float, ...], str], ...]
MAD_TO_SD = 1.4826
MOST_RARE = 0.15
"""Where more of a cohort's cases than this have rare protocols, it is a mixed cohort, and rare is no fault."""
NEARLY = 0.7
"""Of the robust z of an outlier: two measures beyond that are one."""
LEAST_GAIN = 0.03
"""Smaller gains of likeness are no matter."""
UNLIKE = 0.17
"""A smaller lack of likeness is no matter: a clean simulated person reaches 0.15 where the others are nearly alike."""
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
    Measure("signal in the air beside the head", lambda s: s.ghost, 0.004, ("", "ghosts or motion")),
    Measure("contrast", lambda s: s.contrast, math.log(1.6), ("flat", "strange contrast"), True),
    Measure("spread", lambda s: s.spread, math.log(6.0), ("other scale", "other scale"), True),
    Measure("detail half a field of view away", lambda s: s.half_field, 0.08, ("", "half-field ghosts")),
    Measure("strongest spike in k-space", lambda s: s.spike, math.log(1.25), ("", "stripes"), True),
    Measure("ripple", lambda s: s.ripple, 0.35, ("motion or ghosts along j", "motion or ghosts along i")),
    Measure("skewness of detail", lambda s: s.detail_skew, 1.0, ("vessels too dark", "vessels too bright")),
    Measure("sharpness", lambda s: s.sharpness, math.log(1.6), ("blurred", "ringing, noise or spikes"), True),
    Measure("brightness step between slices", lambda s: s.slice_jump, 0.12, ("", "a slice stands out")),
    Measure("mismatch of neighboring slices", lambda s: s.slice_mismatch, 0.2, ("", "a slice does not fit")),
    Measure(
        "5th percentile", lambda s: abs(s.quantiles[1]), math.log(2.5), ("odd grey values", "odd grey values"), True
    ),
    Measure("25th percentile", lambda s: s.quantiles[2], 0.3, ("odd grey values", "odd grey values")),
    Measure(
        "95th percentile", lambda s: abs(s.quantiles[4]), math.log(2.5), ("odd grey values", "odd grey values"), True
    ),
)


PAIR_MEASURES: tuple[tuple[str, Callable[[PairQuality], float], float], ...] = (
    ("agreement of edges", lambda pair: pair.match, math.log(1.12)),
    ("mutual information", lambda pair: pair.information - 1, math.log(1.5)),
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
    """Measures far from the protocol's median; two that are nearly so count as much as one."""
    nearly: dict[str, list[str]] = defaultdict(list)
    told: set[str] = set()
    for measure in MEASURES:
        values = {case.case: measure.read(case.quality.sequences[role]) for case in group}
        for case, text, z in _far(group, values, measure, settings, NEARLY):
            if abs(z) > settings.outlier_z:
                told.add(case.case)
                yield case, Finding(rule="outlier", level="review", text=f"{role}: {text}", role=role)
            else:
                nearly[case.case].append(text)
    for case in group:
        texts = nearly[case.case]
        if case.case not in told and len(texts) >= 2:
            text = f"{role}: several measures nearly outliers: {'; '.join(texts)}"
            yield case, Finding(rule="outlier", level="review", text=text, role=role)


def _far(
    group: Sequence[CohortCase],
    values: Mapping[str, float | None],
    measure: Measure,
    settings: QualitySettings,
    share: float = 1.0,
) -> Iterator[tuple[CohortCase, str, float]]:
    """The cases whose value lies far from the median of the group, with the reason and the robust z.

    Far is beyond `share` of the robust z of the settings. Where all are nearly alike, the deviation is taken
    for large enough that `measure.least` is just at that z.
    """
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
        z = (known[case.case] - middle) / scale
        word = measure.words[z > 0]
        if word and abs(z) > share * settings.outlier_z:
            usual = math.exp(middle) if measure.logarithm else middle
            text = (
                f"{measure.name} {values[case.case]:.3g}, {usual:.3g} in {len(known)} scans of the protocol (robust z "
                f"{z:.1f}; review beyond {settings.outlier_z:g}): {word}"
            )
            yield case, text, z


def _sizes(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    """Brains of another size or shape than the cohort's, as wrong voxel sizes and cut scans have them."""
    masked = [case for case in cases if case.quality.brain is not None]
    readers: tuple[tuple[str, Callable[[BrainQuality], float], float], ...] = (
        ("brain volume", lambda b: b.volume_ml, math.log(1.35)),
        ("width of the brain", lambda b: b.extent_mm[0], math.log(1.18)),
        ("length of the brain", lambda b: b.extent_mm[1], math.log(1.18)),
        ("height of the brain", lambda b: b.extent_mm[2], math.log(1.18)),
    )
    groups: dict[object, list[CohortCase]] = defaultdict(list)
    for case in masked:
        groups[_geometry(case.quality.sequences[case.quality.reference])].append(case)
    for group in [group if len(group) >= settings.min_cohort else masked for group in groups.values()]:
        for name, read, least in readers:
            measure = Measure(name, lambda _: None, least, ("too small", "too large"), True)
            values: dict[str, float | None] = {
                case.case: read(case.quality.brain) for case in group if case.quality.brain is not None
            }
            for case, text, _ in _far(group, values, measure, settings):
                yield case, Finding(rule="brain size", level="review", text=text)


def _pair_outliers(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    roles = sorted({role for case in cases for role in case.quality.pairs})
    for role in roles:
        having = [case for case in cases if role in case.quality.pairs]
        for group in _groups(having, role, settings):
            for name, read, least in PAIR_MEASURES:
                measure = Measure(name, lambda _: None, least, ("another head, or displaced", ""), True)
                values: dict[str, float | None] = {case.case: read(case.quality.pairs[role]) for case in group}
                for case, text, _ in _far(group, values, measure, settings):
                    full = f"{role} on {case.quality.reference}: {text}"
                    yield case, Finding(rule="match", level="review", text=full, role=role)


def _looks(cases: Sequence[CohortCase], settings: QualitySettings) -> Iterator[tuple[CohortCase, Finding]]:
    """Scans that look like another sequence, or turned, or like none of the others."""
    pictures: dict[Role, dict[str, Picture]] = defaultdict(dict)
    for case in cases:
        for role, sequence in case.quality.sequences.items():
            pictures[role][case.case] = decode_thumbnail(sequence.thumbnail)
    medians = {
        role: np.median([picture / 127 for picture in shown.values()], axis=0)
        for role, shown in pictures.items()
        if len(shown) >= settings.min_cohort
    }
    for role, median in medians.items():
        having = [case for case in cases if case.case in pictures[role]]
        template = standardized(median)
        likeness: dict[str, float | None] = {
            name: float(standardized(picture) @ template) for name, picture in pictures[role].items()
        }
        measure = Measure("likeness to the cohort's median", lambda _: None, UNLIKE, ("unlike the others", ""))
        for case, text, _ in _far(having, likeness, measure, settings):
            yield case, Finding(rule="look", level="review", text=f"{role}: {text}", role=role)
        yield from _other_sequence(having, role, pictures[role], medians, settings)
        yield from _turned(having, role, pictures[role], settings)


def _other_sequence(
    cases: Sequence[CohortCase],
    role: Role,
    pictures: Mapping[str, Picture],
    medians: Mapping[Role, Picture],
    settings: QualitySettings,
) -> Iterator[tuple[CohortCase, Finding]]:
    """Scans that are more like the median of another sequence, within the brain, than the others of theirs are."""
    for other, median in medians.items():
        if other is role:
            continue
        own, foreign = standardized(inner(medians[role])), standardized(inner(median))
        gains: dict[str, float | None] = {
            name: float(standardized(inner(picture)) @ (foreign - own)) for name, picture in pictures.items()
        }
        measure = Measure(
            f"likeness to {other} less that to {role}", lambda _: None, LEAST_GAIN, ("", f"is it {other}")
        )
        for case, text, _ in _far(cases, gains, measure, settings):
            if (gains[case.case] or 0) > settings.likeness_margin:
                yield case, Finding(rule="sequence", level="review", text=f"{role}: {text}", role=role)


def _turned(
    cases: Sequence[CohortCase],
    role: Role,
    pictures: Mapping[str, Picture],
    settings: QualitySettings,
) -> Iterator[tuple[CohortCase, Finding]]:
    """Scans that would be more like the others if they were turned or mirrored; left and right look alike."""
    turns = [turn for turn in TURNS if turn[1][0] == 1 and turn != TURNS[0]]
    vectors = {name: standardized(picture) for name, picture in pictures.items()}
    total = np.sum(list(vectors.values()), axis=0)
    turned_totals = np.stack([turned_back(total, turn) for turn in turns])
    gains: dict[str, float | None] = {}
    best: dict[str, Turn] = {}
    for name, vector in vectors.items():
        # The scan itself is no part of the mean that it is compared with: of few scans it would be like itself.
        itself = np.array([turned_back(vector, turn) @ vector for turn in turns])
        norm = max(float(np.linalg.norm(total - vector)), 1e-6)
        products = (turned_totals @ vector - itself) / norm
        gains[name] = float(products.max() - (total @ vector - vector @ vector) / norm)
        best[name] = turns[int(products.argmax())]
    measure = Measure("likeness to the cohort gained by turning", lambda _: None, LEAST_GAIN, ("", "turned"))
    for case, text, _ in _far(cases, gains, measure, settings):
        if (gains[case.case] or 0) > settings.likeness_margin:
            order, signs = best[case.case]
            how = ", ".join(f"{'-' if sign < 0 else ''}{'ijk'[axis]}" for axis, sign in zip(order, signs, strict=True))
            full = f"{role}: {text} or mirrored (axes as {how}), is its header right"
            yield case, Finding(rule="orientation", level="review", text=full, role=role)
