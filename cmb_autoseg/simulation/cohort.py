"""A cohort of simulated people in a real cohort's layout, with the truth beside it."""

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmb_autoseg import __version__
from cmb_autoseg.cohort_names import check_cohort_name
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, read_json, read_tsv, text_digest, write_json, write_tsv
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log, track
from cmb_autoseg.run_log import open_log
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.cohort_folder import CARD, MARKER, RECORDS, refuse_foreign, refuse_other_settings
from cmb_autoseg.simulation.contents.microbleeds import draw_aetiology
from cmb_autoseg.simulation.layouts import LAYOUTS, bids, boxes2d, csiro, dicom, dou, ukb, valdo
from cmb_autoseg.simulation.layouts.case import Case, Layout, Plan, visible_centres
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.profiles import PROFILES, Profile, scanners_of
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol
from cmb_autoseg.simulation.scan import IMAGES, SimulatedScan
from cmb_autoseg.simulation.truth import Tables, person_truth, write_readings, write_tables

__all__ = ["CohortSummary", "is_lesion_free", "plan_people", "simulate_cohort"]

COHORT = "SIMULATED"
"""What a cohort is called that gets no other name."""
LAYOUT_WRITERS: dict[str, Layout] = {
    "valdo": valdo,
    "bids": bids,
    "ukb": ukb,
    "dicom": dicom,
    "dou": dou,
    "csiro": csiro,
    "boxes2d": boxes2d,
}
PARTICIPANT_COLUMNS = [
    "participant_id",
    "age",
    "sex",
    "group",
    "site",
    "vendor",
    "scanner",
    "field_strength_t",
    "protocol",
    "echo_time_ms",
    "anatomy",
]
SCANNER_STREAM, AETIOLOGY_STREAM = 101, 102
"""Keep the cohort's own draws apart from those within a person."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class CohortSummary:
    """What was simulated."""

    out: Path
    layout: str
    people: int
    test_people: int
    lesion_free: int
    visible: int
    invisible: int
    """Microbleeds that no reader could see; they are in the truth and not in the masks."""

    def __str__(self) -> str:
        return (
            f"{self.out}: {self.people} simulated people ({self.test_people} test, {self.lesion_free} lesion-free), "
            f"{self.visible} visible microbleeds and {self.invisible} too faint to see; simulated data, no real scans"
        )


def simulate_cohort(
    out: Path,
    people: int,
    test_people: int = 0,
    layout: str = "valdo",
    protocol: str | Protocol | Sequence[str | Protocol] | None = None,
    seed: int = 0,
    lesion_free_share: float | None = None,
    device: str | None = None,
    template: Template | None = None,
    anatomy: Path | None = None,
    labelled: bool = True,
    misalign: bool = False,
    montage: bool = False,
    name: str = COHORT,
) -> CohortSummary:
    """Simulate people and write their scans, labels, card and truth under `out`.

    An interrupted run goes on where it stopped, and a finished cohort of the same arguments is left as it is.

    Person k is the same in every cohort of the same seed, layout, protocols, anatomies and lesion-free
    share, however many people it has. The same arguments give the same bytes on the
    same machine with the same number of threads.

    Args:
        out: a new or empty folder, or one that holds this very simulation, finished or not.
        people: how many in all.
        test_people: how many of them, the last ones, the card declares as test.
        layout: one of `layouts.LAYOUTS`.
        protocol: names of `PROTOCOLS`, or protocols, used in equal shares; by default the layout's mix.
        seed: of every random choice.
        lesion_free_share: of people without any microbleed, 0..1; spread evenly over the cohort. By
            default the layout's.
        device: `cpu` or `cuda`; by default cuda where there is one.
        template: the average head; by default MNI152 as shipped in nilearn.
        anatomy: folder of label maps, one a person, instead of the average head.
        labelled: write masks, points or boxes; the truth is written in any case.
        misalign: scan T1w with the head moved a little; `truth/transforms.tsv` says how.
        montage: also draw each person's slices with lesions and mimics marked.
        name: of the cohort in its card; cohorts that go into one dataset need different ones.

    Raises:
        InputError: an argument is out of range or no name, there are fewer label maps than people, or `out` holds
            something else, be it another simulation.
        OutputError: `out` cannot be written.
    """
    writer, profile = _layout(layout)
    _check_numbers(people, test_people, lesion_free_share)
    _check_name(name)
    if misalign and "t1w" not in writer.IMAGES:
        having = ", ".join(name for name in LAYOUTS if "t1w" in LAYOUT_WRITERS[name].IMAGES)
        raise InputError(f"--misalign: the layout {layout} has no T1w to misalign; choose --layout {having}")
    maps = _label_maps(anatomy, people) if anatomy else []
    share = profile.lesion_free_share if lesion_free_share is None else lesion_free_share
    plans = plan_people(people, test_people, layout, _protocols(protocol), seed, share, labelled, maps)
    refuse_foreign(out, writer)
    _check_heads(maps)
    average = None if maps else template or _average_head()
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    heads = [file_digest(path) for path in maps] if average is None else [_identity(average)]
    settings = _settings(plans, layout, seed, misalign, montage, target, heads, name)
    tables: list[Tables] = []
    cases: list[Case] = []
    with own_folder(out, "cmb_simulate"):
        refuse_other_settings(out, settings)
        if (out / CARD).is_file():
            log(f"{out}: simulated already with these settings, left as it is")
            return _summary(out, layout, test_people)
        write_json(out / MARKER, {"simulated": True, "by": "cmb_simulate", "settings": settings})
        open_log(out)
        for plan in track(plans, "Simulating"):
            record = out / RECORDS / f"{plan.subject}.json"
            if not record.is_file():
                scan = simulate_person(
                    average or _own_head(maps[plan.index]),
                    plan.protocol,
                    seed,
                    plan.index,
                    plan.lesion_free,
                    target,
                    habits=replace(profile.habits, aetiology_shares={plan.aetiology: 1.0}),
                    demographics=profile.demographics,
                    images=IMAGES if montage else writer.IMAGES,
                    misalign=misalign,
                )
                writer.write_scan(out, plan, scan)
                write_readings(out / "truth", plan, scan)
                if montage:
                    _draw(out / "montage" / f"{plan.subject}.png", scan)
                write_json(record, _record(plan, scan, seed))
            finished = read_json(record)
            tables.append(finished["tables"])
            cases.append(_case(plan, finished))
        write_tables(out / "truth", tables)
        write_tsv(out / "participants.tsv", PARTICIPANT_COLUMNS, [case.participant for case in cases])
        writer.finish(out, cases, labelled, name)
        shutil.rmtree(out / RECORDS)
    return _summary(out, layout, test_people)


def _summary(out: Path, layout: str, test_people: int) -> CohortSummary:
    rows = read_tsv(out / "truth" / "people.tsv")
    lesions = [int(row["n_lesions"]) for row in rows]
    visible = sum(int(row["n_visible"]) for row in rows)
    return CohortSummary(out, layout, len(rows), test_people, lesions.count(0), visible, sum(lesions) - visible)


def plan_people(
    people: int,
    test_people: int,
    layout: str,
    protocols: Sequence[Protocol] | None,
    seed: int,
    lesion_free_share: float,
    labelled: bool = True,
    maps: Sequence[Path] | None = None,
) -> list[Plan]:
    """Who is scanned where, before anything is simulated; of the arguments see `simulate_cohort`.

    Raises:
        InputError: more people than the layout has names for.
    """
    writer, profile = _layout(layout)
    scanners = scanners_of(profile, protocols)
    shares = np.cumsum([scanner.share for scanner, _ in scanners])
    start = np.random.default_rng([seed, SCANNER_STREAM]).random()
    chosen = []
    for index in range(people):
        # A golden-ratio sequence: any run of people has each scanner about as often as its share says.
        position = (start + index * GOLDEN) % 1 * shares[-1]
        chosen.append(scanners[int(np.searchsorted(shares, position, side="right"))])
    own = list(dict.fromkeys(scanner for scanner, _ in scanners))
    names = writer.subject_names([protocol for _, protocol in chosen], [protocol for _, protocol in scanners])
    return [
        Plan(
            index,
            names[index],
            "test" if index >= people - test_people else "train",
            scanner,
            protocol,
            is_lesion_free(index, lesion_free_share),
            draw_aetiology(np.random.default_rng([seed, index, AETIOLOGY_STREAM]), profile.habits),
            protocol.site if profile.sites_by_protocol else own.index(scanner) + 1,
            writer.SESSION,
            maps[index].name if maps else f"average-{seed}-{index}",
            labelled,
        )
        for index, (scanner, protocol) in enumerate(chosen)
    ]


def is_lesion_free(index: int, share: float) -> bool:
    """Whether person `index` has no microbleed: evenly spread, so that any run of people has its share."""
    return math.floor((index + 1) * share + 0.5) > math.floor(index * share + 0.5)


def _protocols(wanted: str | Protocol | Sequence[str | Protocol] | None) -> list[Protocol] | None:
    if wanted is None:
        return None
    several = [wanted] if isinstance(wanted, str | Protocol) else wanted
    protocols = []
    for protocol in several:
        if isinstance(protocol, str) and protocol not in PROTOCOLS:
            raise InputError(f"--protocol: found {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
        protocols.append(PROTOCOLS[protocol] if isinstance(protocol, str) else protocol)
    return protocols


def _layout(layout: str) -> tuple[Layout, Profile]:
    if layout not in LAYOUT_WRITERS:
        raise InputError(f"--layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return LAYOUT_WRITERS[layout], PROFILES[layout]


def _check_numbers(people: int, test_people: int, lesion_free_share: float | None) -> None:
    if people < 1:
        raise InputError(f"-n: found {people}, expected at least 1")
    if not 0 <= test_people <= people:
        raise InputError(f"--n-test: found {test_people}, expected 0..{people} (they are counted in -n)")
    if lesion_free_share is not None and not 0 <= lesion_free_share <= 1:
        raise InputError(f"--lesion-free-share: found {lesion_free_share}, expected 0..1")


def _check_name(name: str) -> None:
    try:
        check_cohort_name(name)
    except ValueError as error:
        raise InputError(f"--name: {error}") from None


def _label_maps(folder: Path, people: int) -> list[Path]:
    """One label map a person, in the order of their names."""
    from cmb_autoseg.simulation.anatomy.label_files import find_label_maps

    found = find_label_maps(folder)
    if len(found) < people:
        raise InputError(
            f"--anatomy {folder}: {len(found)} label maps for {people} people, and a head belongs to one person; "
            f"give a folder with more, or at most -n {len(found)}"
        )
    return found[:people]


def _check_heads(maps: Sequence[Path]) -> None:
    """Refuse files that are no label maps, and a head that comes twice, before hours are spent on others."""
    if not maps:
        return
    from cmb_autoseg.simulation.anatomy.label_files import check_label_map

    digests: dict[str, Path] = {}
    for path in maps:
        twin = digests.setdefault(check_label_map(path), path)
        if twin is not path:
            raise InputError(
                f"--anatomy {path.parent}: {twin.name} and {path.name} are the same head, which belongs to one "
                "person; remove one of them"
            )


def _own_head(path: Path) -> Template:
    from cmb_autoseg.simulation.anatomy.label_files import load_label_map

    return load_label_map(path)


def _average_head() -> Template:
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    return load_mni152()


def _settings(
    plans: Sequence[Plan],
    layout: str,
    seed: int,
    misalign: bool,
    montage: bool,
    device: torch.device,
    heads: Sequence[str],
    name: str = COHORT,
) -> str:
    """Digest of all that a cohort's files hang on; a run with the same one may go on with another's files."""
    options = seed, misalign, montage, device.type, *([] if name == COHORT else [name])
    return text_digest(repr((__version__, plans, layout, PROFILES[layout], options, heads)))


def _identity(template: Template) -> str:
    """Digest of an average head."""
    digest = hashlib.sha256(repr((template.grid, template.size, template.sharpness, template.atrophy)).encode())
    digest.update(template.to_mni.tobytes())
    digest.update(template.maps.cpu().numpy().tobytes())
    for name, structure in sorted(template.structures.items()):
        digest.update(repr((name, structure.grid)).encode())
        digest.update(structure.map.cpu().numpy().tobytes())
    return digest.hexdigest()


def _record(plan: Plan, scan: SimulatedScan, seed: int) -> dict[str, Any]:
    """What of a finished person is needed at the end; an interrupted run finds it again."""
    return {
        "age": scan.person.age,
        "sex": scan.person.sex,
        "centre_voxels": visible_centres(scan).tolist(),
        "tables": person_truth(plan, scan, seed),
    }


def _case(plan: Plan, record: Mapping[str, Any]) -> Case:
    centres = np.array(record["centre_voxels"], dtype=np.float64).reshape(-1, 3)
    return Case(plan, record["age"], record["sex"], centres)


def _draw(path: Path, scan: SimulatedScan) -> None:
    from cmb_autoseg.simulation.montage import write_montage

    write_montage(path, scan)
