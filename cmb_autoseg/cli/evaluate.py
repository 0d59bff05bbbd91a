"""`cmb_evaluate`: predictions of any tool against references, every figure from one command."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_option,
    add_seed,
    existing_path,
    non_negative_int,
    positive_float,
    run_command,
)
from cmb_autoseg.cli._help import epilog

if TYPE_CHECKING:
    from cmb_autoseg.evaluation.evaluation_report import EvaluationReport
    from cmb_autoseg.evaluation.run import EvaluationRequest

__all__ = ["build_parser", "main", "run"]

DESCRIPTION = """\
Score predictions of any tool against references: lesions, voxels, counts and patients, with intervals.
Cases are paired by name: masks <case>.nii.gz, <case>_mask.nii.gz or <case>_dseg.nii.gz, with probabilities beside
them (<case>_prob.nii.gz, nnU-Net's <case>.npz), or lists of points or boxes (.tsv, .csv, .json)."""

EPILOG = epilog(
    {
        "cmb_evaluate -p predictions --reference masks -o scores": "as the VALDO challenge counts",
        "cmb_evaluate -p predictions --reference masks -o scores --cases cases.tsv --subgroups scanner age:65,75": (
            "with subgroups, and intervals that draw people with all their scans"
        ),
        "cmb_evaluate -p ours --reference masks -o scores --against shiva=theirs": "two systems on the same cases",
        "cmb_evaluate -p prob --reference masks -o scores --threshold fp-1 --validation valprob valmasks": (
            "a threshold chosen on other people's scans"
        ),
    },
    writes="OUT/metrics.json, per_case.tsv, matches.tsv, failures.tsv, tables/, figures/, checklists.md, report.html "
    "and logs/",
    some_failed="some cases could not be scored: failures.tsv says which and why",
    see="cmb_predict; the reference of metrics defines each figure",
)
KINDS = ("mask", "points", "boxes")
MOST_DRAWS = 100_000


def build_parser() -> Parser:
    from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS  # standard library only

    parser = Parser("cmb_evaluate", DESCRIPTION, EPILOG)
    where = parser.add_argument_group("input and output")
    add_option(where, "-p", type=Path, metavar="PRED", help="folder of predictions, or a list of all cases")
    add_option(where, "--reference", type=Path, metavar="REF", help="folder of references, or a list of all cases")
    add_option(where, "-o", required=True, type=Path, metavar="OUT", help="folder for the results")
    add_option(
        where,
        "--against",
        nargs="+",
        default=[],
        metavar="NAME=PRED",
        help="other systems' predictions of the same cases, scored as they are and compared with those of -p",
    )
    add_option(
        where, "--name", metavar="TEXT", help="what the system of -p is called beside others (default: this system)"
    )
    add_option(
        where, "--verdicts", type=Path, metavar="FILE", help="table of readers' verdicts: case, lesion, rater, verdict"
    )
    scoring = parser.add_argument_group("scoring")
    add_option(
        scoring,
        "--protocol",
        choices=tuple(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help="when a lesion counts as found: valdo, centres of mass within 5 mm, one to one; overlap, any voxel; "
        "overlap40, more than 40 %% of the reference lesion; points, centres within 5 mm, duplicates set aside; iou, "
        "intersection over union of at least 0.1. All are reported side by side (default: valdo)",
    )
    add_option(
        scoring,
        "--limit",
        type=positive_float,
        metavar="N",
        help="another limit for that protocol: mm, share of the lesion, or intersection over union",
    )
    add_option(
        scoring, "--connectivity", type=int, choices=(6, 18, 26), default=26, help="neighbors of a voxel (default: 26)"
    )
    add_option(
        scoring, "--min-volume", type=positive_float, metavar="MM3", help="leave out smaller lesions on both sides"
    )
    add_option(
        scoring,
        "--diameter",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="leave out lesions of other diameters (mm, sphere of equal volume) on both sides",
    )
    add_option(
        scoring,
        "--threshold",
        metavar="NUMBER|RULE",
        help="probability or score from which on a finding counts; or a rule (best-f1, sensitivity-0.9, fp-1), which "
        "needs --validation (default: masks and lists as they are, probability maps without a mask at 0.5)",
    )
    add_option(
        scoring,
        "--validation",
        nargs=2,
        type=Path,
        metavar=("PRED", "REF"),
        help="other people's cases, on which the rule chooses the threshold",
    )
    add_option(
        scoring,
        "--need",
        nargs="+",
        default=[],
        metavar="FIGURE",
        help="refuse to report at all if one of these figures is undefined, such as voxel.dice or lesion.ap",
    )
    about = parser.add_argument_group("about the cases")
    add_option(
        about, "--cases", type=Path, metavar="FILE", help="table of cases or people: subject, and columns for subgroups"
    )
    add_option(
        about,
        "--subgroups",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="report these columns' groups; age:65,75 cuts numbers there",
    )
    add_option(about, "--regions", type=Path, metavar="DIR", help="maps of regions: 1 lobar, 2 deep, 3 infratentorial")
    add_option(about, "--seconds", type=Path, metavar="FILE", help="table of the seconds of each prediction")
    add_option(
        about,
        "--images",
        type=Path,
        metavar="DIR",
        help="scans to draw the best and worst cases on: <case>_0000.nii.gz, or those that cmb_predict was given; "
        "lists that count in voxels count in theirs where there is no mask",
    )
    add_option(about, "--explanations", type=Path, metavar="DIR", help="folder of cmb_explain, for the same cases")
    lists = parser.add_argument_group("lists of points and boxes")
    add_option(
        lists, "--space", choices=("ras_mm", "lps_mm", "voxel0", "voxel1"), help="of coordinates without a unit's name"
    )
    add_option(
        lists,
        "--spacing",
        nargs="+",
        type=positive_float,
        metavar="MM",
        help="voxel size where no mask and no scan of --images tells it",
    )
    add_option(lists, "--predicted-kind", choices=KINDS, help="which to score where a prediction has several")
    add_option(lists, "--reference-kind", choices=KINDS, help="the same of references")
    intervals = parser.add_argument_group("intervals")
    add_option(
        intervals,
        "--resamples",
        type=_draws,
        default=1000,
        metavar="N",
        help="draws of subjects for intervals; 0 for none (default: 1000)",
    )
    add_seed(intervals)
    return parser


def _draws(text: str) -> int:
    """An argparse type: a number of draws that a machine can hold."""
    n_draws = non_negative_int(text)
    if n_draws > MOST_DRAWS:
        raise ArgumentTypeError(f"found {text}, expected at most {MOST_DRAWS:,} draws")
    return n_draws


def run(args: Namespace) -> int:
    from cmb_autoseg.errors import InputError

    predicted, reference = _sides(args)
    for flag in ("verdicts", "cases", "seconds", "regions", "images", "explanations"):
        path = getattr(args, flag)
        if path is not None:
            existing_path(path, f"--{flag}")
    if predicted is None:
        return _verdicts_alone(args)
    assert reference is not None
    against = _named_folders(args.against)
    optional = (args.cases, args.seconds, args.verdicts, args.regions, args.images, args.explanations)
    given = (predicted, reference, *against.values(), *(args.validation or ()), *(path for path in optional if path))
    _refuse_input_folder(args.o, *given)
    if args.images is not None and not args.images.is_dir():
        raise InputError(f"--images {args.images}: is a file; give the folder of the scans")

    from cmb_autoseg.evaluation.reporting.provenance import facts_of_run, kind_of_cases  # numpy and scipy from here on
    from cmb_autoseg.evaluation.reporting.report_files import Provenance, write_report
    from cmb_autoseg.evaluation.reporting.views import views_of
    from cmb_autoseg.evaluation.run import plan
    from cmb_autoseg.evaluation.run import run as run_planned
    from cmb_autoseg.locking import own_folder
    from cmb_autoseg.progress import telling, track
    from cmb_autoseg.run_log import open_log

    planned = plan(_request(args, predicted, reference, against))
    with own_folder(args.o, "cmb_evaluate", nested=False):
        report, readers = run_planned(planned, lambda cases, doing: track(cases, doing))
        open_log(args.o)
        with telling("intervals, tables and figures ..."):
            facts = {"predictions": predicted.name, "reference": reference.name, **facts_of_run(predicted)}
            views = views_of(report, planned.predictions, args.images, args.explanations or _folder_of(predicted))
            provenance = Provenance(kind_of_cases(report.cases, args.cases), facts, views)
            write_report(report, args.o, provenance, readers)
    return _tell(report, args.o)


def _folder_of(predicted: Path) -> Path:
    return predicted if predicted.is_dir() else predicted.parent


def _tell(report: "EvaluationReport", out: Path) -> int:
    from cmb_autoseg.evaluation.reporting.metrics_file import summary
    from cmb_autoseg.progress import log
    from cmb_autoseg.progress import report as show

    for warning in report.warnings:
        log(f"warning: {warning}")
    for failure in report.failures:
        log(f"failed: {failure.reason}")
    show(summary(report))
    show(f"\nreport: {out / 'report.html'}")
    return ExitCode.SOME_FAILED if report.failures or report.other_failures else ExitCode.DONE


def _sides(args: Namespace) -> tuple[Path | None, Path | None]:
    from cmb_autoseg.errors import InputError

    if args.p is None and args.reference is None and args.verdicts is not None:
        return None, None
    if args.p is None or args.reference is None:
        missing = "-p PRED" if args.p is None else "--reference REF"
        raise InputError(f"{missing} is missing; give predictions and references, or --verdicts FILE alone")
    return existing_path(args.p, "-p"), existing_path(args.reference, "--reference")


def _verdicts_alone(args: Namespace) -> int:
    from cmb_autoseg.evaluation.readers.reader_files import summary, write_reader_study
    from cmb_autoseg.evaluation.readers.reader_study import read_verdicts, reader_study
    from cmb_autoseg.evaluation.statistics.intervals import Resampling
    from cmb_autoseg.locking import own_folder
    from cmb_autoseg.progress import report as show
    from cmb_autoseg.run_log import open_log

    study = reader_study(read_verdicts(args.verdicts), Resampling(args.resamples, args.seed))
    with own_folder(args.o, "cmb_evaluate", nested=False):
        open_log(args.o)
        write_reader_study(study, args.o)
    show(summary(study))
    show(f"\nreport: {args.o / 'report.html'}")
    return ExitCode.DONE


def _request(args: Namespace, predicted: Path, reference: Path, against: dict[str, Path]) -> "EvaluationRequest":
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.evaluation.evaluate import InputSettings
    from cmb_autoseg.evaluation.inputs.case_table import read_case_table
    from cmb_autoseg.evaluation.inputs.loading import ListSettings
    from cmb_autoseg.evaluation.inputs.subgroups import read_subgroup_spec
    from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS, LesionRule
    from cmb_autoseg.evaluation.needs import known_needs
    from cmb_autoseg.evaluation.operating_point import ThresholdRule, read_threshold
    from cmb_autoseg.evaluation.readers.reader_study import read_verdicts
    from cmb_autoseg.evaluation.run import THIS_SYSTEM, EvaluationRequest
    from cmb_autoseg.evaluation.scoring import ScoringSettings
    from cmb_autoseg.evaluation.statistics.intervals import Resampling

    threshold = None if args.threshold is None else read_threshold(args.threshold)
    rule = threshold if isinstance(threshold, ThresholdRule) else None
    if args.validation is not None and rule is None:
        raise InputError("--validation: needs --threshold RULE, such as best-f1, sensitivity-0.9 or fp-1")
    if args.spacing is not None and len(args.spacing) not in (2, 3):
        raise InputError(f"--spacing: found {len(args.spacing)} sizes, expected two (of pictures) or three")
    if args.diameter is not None and not 0 <= args.diameter[0] < args.diameter[1]:
        raise InputError(
            f"--diameter {args.diameter[0]:g} {args.diameter[1]:g}: expected 0 <= LOW < HIGH, such as 2 10"
        )
    if args.name in against:
        raise InputError(f"--name {args.name}: a system of --against has this name, too; give each one of its own")
    protocols = dict(PROTOCOLS)
    if args.limit is not None:
        if args.protocol in ("overlap", "overlap40", "iou") and args.limit >= 1:
            raise InputError(
                f"--limit {args.limit:g}: {args.protocol} takes a share of the extent, strictly between 0 and 1"
            )
        protocols[args.protocol] = protocols[args.protocol].with_limit(args.limit)
    return EvaluationRequest(
        predicted=predicted,
        reference=reference,
        settings=ScoringSettings(
            protocol=args.protocol,
            protocols=protocols,
            rule=LesionRule(args.connectivity, args.min_volume or 0.0, args.diameter and tuple(args.diameter)),
            threshold=threshold if isinstance(threshold, float) else None,
        ),
        inputs=InputSettings(
            predicted_kind=args.predicted_kind,
            reference_kind=args.reference_kind,
            lists=ListSettings(args.space, args.spacing and tuple(args.spacing), args.images),
            regions=args.regions,
            table=None if args.cases is None else read_case_table(args.cases),
            seconds=args.seconds,
        ),
        resampling=Resampling(args.resamples, args.seed),
        rule=rule,
        validation=None if args.validation is None else tuple(args.validation),
        name=args.name or THIS_SYSTEM,
        against=against,
        subgroups=tuple(map(read_subgroup_spec, args.subgroups)),
        verdicts=() if args.verdicts is None else read_verdicts(args.verdicts),
        needs=known_needs(args.need),
    )


def _named_folders(texts: Sequence[str]) -> dict[str, Path]:
    from cmb_autoseg.errors import InputError

    named: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise InputError(f"--against {text}: expected NAME=PRED, such as shiva=predictions_of_shiva")
        if name in named:
            raise InputError(f"--against {text}: the name {name} stands twice; give each system one of its own")
        named[name] = existing_path(Path(folder), f"--against {name}")
    return named


def _refuse_input_folder(output: Path, *inputs: Path) -> None:
    """Results have names (failures.tsv) that folders of predictions and of explanations hold already."""
    from cmb_autoseg.errors import InputError

    for path in inputs:
        folder = path if path.is_dir() else path.parent
        if output.resolve() == folder.resolve():
            held = "files to be read" if path == folder else path.name
            raise InputError(f"-o {output}: holds {held}; choose another folder for the results")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_command(build_parser(), run, argv)
