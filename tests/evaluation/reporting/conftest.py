"""A small study that is made up: cases as if they had been scored, figures, tables, pictures and the page."""

from dataclasses import replace

import numpy as np
import pytest

from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair, SurfaceDistances, VoxelCounts
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.metrics.calibration import calibration_statistics, reliability
from cmb_autoseg.evaluation.metrics.count import count_statistics
from cmb_autoseg.evaluation.metrics.curves import froc, lesion_roc, patient_roc, precision_recall
from cmb_autoseg.evaluation.metrics.lesion import lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import patient_statistics
from cmb_autoseg.evaluation.metrics.severity import severity_confusion, severity_statistics
from cmb_autoseg.evaluation.metrics.strata import region_strata, size_strata
from cmb_autoseg.evaluation.metrics.surface import surface_statistics
from cmb_autoseg.evaluation.metrics.voxel import voxel_statistics
from cmb_autoseg.evaluation.reporting.backgrounds import Background
from cmb_autoseg.evaluation.reporting.build_pictures import Curves, build_pictures
from cmb_autoseg.evaluation.reporting.build_tables import build_tables
from cmb_autoseg.evaluation.reporting.cases import view_cases
from cmb_autoseg.evaluation.reporting.checklist import fill_checklists
from cmb_autoseg.evaluation.reporting.flow import FlowStep
from cmb_autoseg.evaluation.reporting.page import PageContent
from cmb_autoseg.evaluation.reporting.study import Group, Study
from cmb_autoseg.evaluation.statistics.bootstrap import subject_weights
from cmb_autoseg.evaluation.statistics.intervals import Resampler, Resampling
from cmb_autoseg.evaluation.statistics.paired import System, comparison_rows
from cmb_autoseg.geometry import Volume
from cmb_autoseg.reporting import pictures as drawing

NAMES = ("valdo", "overlap40")
SPREAD = {"valdo": 0.8, "overlap40": 0.65}
"""Chance that a lesion is found."""
THRESHOLD = 0.5
SETTINGS = Resampling(n_resamples=20, seed=1)


def lesions(rng, n, confidence=None):
    place = rng.uniform(-40, 40, (n, 3))
    volumes = np.pi / 6 * rng.uniform(1.5, 9, n) ** 3
    regions = tuple(rng.choice(["lobar", "deep", "infratentorial"], n))
    mean = None if confidence is None else 0.9 * confidence
    return LesionSet("mask", place, volumes, regions, confidence, mean)


def chosen(all_lesions, keep):
    return LesionSet(
        "mask",
        all_lesions.centres_mm[keep],
        all_lesions.volumes_mm3[keep],
        tuple(np.array(all_lesions.regions)[keep]),
        all_lesions.confidence[keep],
        all_lesions.mean_probability[keep],
    )


def pair(reference, predicted):
    return Pair(reference=reference, predicted=predicted, distance_mm=1.0, overlap=0.7, iou=0.5, dice=0.67)


def made_case(rng, number, skill=0.0):
    n = int(rng.poisson(3)) if number % 3 else 0
    reference = lesions(rng, n)
    n_false = int(rng.poisson(2))
    confidence = np.concatenate([np.clip(rng.normal(0.75, 0.2, n), 0.02, 0.99), rng.beta(2, 4, n_false)])
    candidates = lesions(rng, n + n_false, confidence)
    kept = np.flatnonzero(confidence >= THRESHOLD)
    matchings, candidate_matchings = {}, {}
    luck = rng.random(n)
    for name in NAMES:
        found = [index for index in range(n) if luck[index] < SPREAD[name] + skill]
        candidate_matchings[name] = Matching(pairs=tuple(pair(index + 1, index + 1) for index in found))
        places = {int(index): place + 1 for place, index in enumerate(kept)}
        matchings[name] = Matching(pairs=tuple(pair(i + 1, places[i]) for i in found if i in places))
    wrong = (int(rng.integers(5, 50)), int(rng.integers(5, 50)))
    return CaseScore(
        case=f"sub-{number:02d}",
        subject=f"sub-{number // 2:02d}",
        reference=reference,
        predicted=chosen(candidates, kept),
        matchings=matchings,
        candidates=candidates,
        candidate_matchings=candidate_matchings,
        voxels=VoxelCounts(
            true_positive=20 * n, false_positive=wrong[0], false_negative=wrong[1] * bool(n), true_negative=100_000
        ),
        voxel_volume_mm3=0.5,
        surfaces=tuple(
            SurfaceDistances(reference=1, hd95_mm=1.5, assd_mm=0.6, surface_dice_1mm=0.8) for _ in range(bool(n))
        ),
        seconds=float(rng.uniform(2, 9)),
        columns={"field_strength_t": str(rng.choice(["1.5", "3"])), "cohort": str(rng.choice(["A & B", "<C>"]))},
    )


def made_cases(n=16, seed=0, skill=0.0):
    rng = np.random.default_rng(seed)
    return [made_case(rng, number, skill) for number in range(n)]


def groups(cases, resampler):
    figures = resampler.figures
    return {
        "lesion": figures(lesion_statistics(cases, "valdo")),
        "voxel": figures(voxel_statistics(cases, "valdo")),
        "count": figures(count_statistics(cases)),
        "patient": figures(patient_statistics(cases)),
        "severity": figures(severity_statistics(cases)),
        "calibration": figures(calibration_statistics(cases, "valdo")),
        "surface": figures(surface_statistics(cases)),
    }


def strata_of(cases, resampler):
    return [
        Group(
            by,
            stratum.meaning,
            {"lesions": stratum.n_reference, "predicted": stratum.n_predicted},
            resampler.figures({f"lesion.{key}": statistic for key, statistic in stratum.statistics.items()}),
        )
        for by, strata in (("size", size_strata(cases, "valdo")), ("region", region_strata(cases, "valdo")))
        for stratum in strata
    ]


def subgroups_of(cases):
    found = []
    for column in ("field_strength_t", "cohort"):
        for value in sorted({case.columns[column] for case in cases}):
            own = [case for case in cases if case.columns[column] == value]
            resampler = Resampler([case.subject for case in own], SETTINGS)
            statistics = lesion_statistics(own, "valdo")
            keys = ("sensitivity", "precision", "f1", "fp_per_scan")
            figures = resampler.figures({f"lesion.{key}": statistics[key] for key in keys})
            counts = {"cases": len(own), "subjects": len({c.subject for c in own})}
            warning = "few subjects" if column == "cohort" else ""
            found.append(Group(column, value, counts, figures, warning))
    return found


def made_study(cases):
    subjects = [case.subject for case in cases]
    resampler = Resampler(subjects, SETTINGS)
    keys = ("sensitivity", "precision", "f1")
    other = made_cases(len(cases), skill=-0.3)
    systems = [
        System(name, {f"lesion.{key}": lesion_statistics(own, "valdo")[key] for key in keys})
        for name, own in (("ours", cases), ("other", other))
    ]
    by_protocol = {name: resampler.figures(lesion_statistics(cases, name)) for name in NAMES}
    return Study(
        protocol=PROTOCOLS["valdo"],
        cases=cases,
        figures=groups(cases, resampler),
        limits={name: PROTOCOLS[name] for name in NAMES},
        by_protocol=by_protocol,
        strata=strata_of(cases, resampler),
        subgroups=subgroups_of(cases),
        systems={system.name: resampler.figures(system.statistics) for system in systems},
        differences=comparison_rows(systems, subjects, "other", SETTINGS),
        more_rows={"reader_verdicts": [{"reader": "R1", "correct": 90, "incorrect": 7, "missed": 3}]},
        operating_point={"threshold": "0.5", "chosen from": "validation data of the five folds"},
    )


def made_scan():
    """A gray ball of 96 x 96 x 96 mm, 1.5 x 1.5 x 3 mm voxels, its middle at the origin."""
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    affine[:3, 3] = -48
    i, j, k = np.indices((64, 64, 32))
    inside = (i - 31.5) ** 2 + (j - 31.5) ** 2 + (2 * (k - 15.5)) ** 2 < 31**2
    return Volume((inside * (120 + 30 * np.sin(i / 4) * np.cos(j / 5))).astype(np.float32), affine)


@pytest.fixture(scope="session", autouse=True)
def _coarse_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "DPI", 50)
        yield


@pytest.fixture(scope="session")
def cases():
    return made_cases()


@pytest.fixture(scope="session")
def study(cases):
    return made_study(cases)


@pytest.fixture(scope="session")
def curves(cases):
    weights = subject_weights([case.subject for case in cases], 20, np.random.default_rng(1)).astype(float)
    other = made_cases(len(cases), skill=-0.3)
    return Curves(
        froc(cases, "valdo", weights),
        precision_recall(cases, "valdo", weights),
        lesion_roc(cases, "valdo", weights),
        patient_roc(cases, weights=weights),
        reliability(cases, "valdo"),
        {"ours": froc(cases, "valdo"), "other": froc(other, "valdo")},
    )


@pytest.fixture(scope="session")
def tables(study, curves):
    return build_tables(
        study,
        confusion=severity_confusion(study.cases),
        precision_recall=curves.precision_recall,
        reliability=curves.reliability,
    )


@pytest.fixture(scope="session")
def pictures(study, curves):
    return build_pictures(study, curves)


@pytest.fixture(scope="session")
def page(study, tables, pictures):
    lesion = study.figures["lesion"]
    shown = {
        "lesion sensitivity": "sensitivity",
        "lesion precision": "precision",
        "lesion F1": "f1",
        "FP per scan": "fp_per_scan",
    }
    return PageContent(
        title="Evaluation of microbleed predictions",
        protocol="valdo",
        definition=study.protocol.defined,
        data="simulated",
        facts={"predictions": "predictions", "reference": "cohort/labels <masks>", "lesions": "26-connected"},
        flow=(
            FlowStep("reference cases found", 20, (("without a prediction", 2),)),
            FlowStep("paired", 18, (("another grid", 1), ("values that are no probabilities", 1))),
            FlowStep("scored", 16),
            FlowStep("with reference lesions", 10),
        ),
        headline={name: lesion[key] for name, key in shown.items()},
        tables=tables,
        pictures=pictures,
        cases=view_cases(study.cases, "valdo", lambda _: Background(made_scan(), "scan"))[::3],
        failures=(("sub-30", "sub-30: mask is 0.41 mm off its reference (tolerance 0.01 mm)"),),
        warnings=("sub-31: predicted, but without reference; not scored",),
        definitions={"lesion": "A 26-connected component of a mask."},
        statistics=("1,000 draws of subjects with all their scans; seed 0.",),
        checklists=fill_checklists({"n_cases": "16", "protocol": "valdo"}),
        versions={"cmb_autoseg": "0.1", "numpy": np.__version__},
    )


def odd_sets(cases):
    """Cases that lack something on one side or on both, by what they lack."""
    none, no_pairs = lesions(np.random.default_rng(0), 0, np.empty(0)), {name: Matching() for name in NAMES}
    bare = {"matchings": no_pairs, "candidate_matchings": no_pairs, "surfaces": ()}
    few = cases[:4]
    return {
        "nothing on either side": [
            replace(case, reference=none, predicted=none, candidates=none, seconds=None, **bare) for case in few
        ],
        "no reference lesion": [replace(case, reference=none, **bare) for case in few],
        "no predicted lesion": [replace(case, predicted=none, candidates=none, **bare) for case in few],
        "no confidence": [replace(case, candidates=None, candidate_matchings={}) for case in few],
        "no voxels": [replace(case, voxels=None, surfaces=()) for case in few],
        "one case": cases[:1],
        "no case": [],
    }


@pytest.fixture(
    scope="session",
    params=[
        *("nothing on either side", "no reference lesion", "no predicted lesion", "no confidence", "no voxels"),
        *("one case", "no case"),
    ],
)
def odd_page(request, cases):
    """The whole report of cases that lack something, as its parts and as text."""
    own = odd_sets(cases)[request.param]
    resampler = Resampler([case.subject for case in own], SETTINGS)
    study = Study(PROTOCOLS["valdo"], own, groups(own, resampler), strata=strata_of(own, resampler))
    of_curves = (own, "valdo")
    drawn = Curves(froc(*of_curves), precision_recall(*of_curves), lesion_roc(*of_curves), patient_roc(own))
    tables = build_tables(study, confusion=severity_confusion(own), precision_recall=drawn.precision_recall)
    return PageContent("Odd", "valdo", "d", tables=tables, pictures=build_pictures(study, drawn))
