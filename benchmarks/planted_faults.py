"""How many planted faults quality control finds in simulated scans, and whom it alarms without reason.

    cmb_simulate -o people -n 30 --layout bids --protocol small --seed 11
    python benchmarks/planted_faults.py people [--seeds 1 2] [--out benchmarks/planted_faults.md]

Every fault of `tests/quality_control/faults.py` is planted in a person of its own of a cohort whose others stay
clean, six at a time; the brain is found by the classical mask, before the fault. A fault is found when its case
is not `pass`, or preparation refuses it. Without a folder the made-up heads of the tests are the cohort.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import Volume, read_volume, to_canonical
from cmb_autoseg.preprocessing.brain_mask import classical_mask
from cmb_autoseg.progress import track
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Role
from tests.quality_control.faults import measured, plant_all
from tests.quality_control.heads import Scan, make_head

NAMES = {Role.SWI: "acq-swi_T2starw", Role.T1: "T1w", Role.QSM: "Chimap"}
MADE_UP = 30


def read_person(folder: Path, masks: Path) -> Scan:
    """One person of a cohort that `cmb_simulate --layout bids` wrote; the last one serves as stranger."""
    files = {role: next(folder.rglob(f"{folder.name}_{name}.nii.gz")) for role, name in NAMES.items()}
    volumes = {role: read_volume(path) for role, path in files.items()}
    label = read_volume(next((masks / folder.name).rglob("*_mask.nii.gz")))
    swi = to_canonical(volumes[Role.SWI])
    brain = Volume(classical_mask(swi).astype(np.uint8), swi.affine)
    bare = {role: Volume(volume.data, volume.affine) for role, volume in volumes.items()}
    return Scan(folder.name, folder.name, bare, Volume(label.data.astype(np.uint8), label.affine), brain)


def cohort(people: Path | None, seed: int) -> tuple[list[Scan], Scan]:
    if people is None:
        scans = [make_head(1000 * seed + n, ("thin", "thick")[n % 2]) for n in range(MADE_UP)]
        return scans, make_head(1000 * seed + 500)
    folders = sorted(path for path in people.glob("sub-*") if list(path.rglob("*Chimap.nii.gz")))
    scans = [read_person(folder, people / "derivatives" / "microbleeds") for folder in track(folders, "Reading")]
    return scans[:-1], scans[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", nargs="?", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    trials, alarms, clean_alarms, n_clean = [], [], [], 0
    scans, clean = [], []
    for seed in args.seeds:
        if not scans or args.people is None:
            scans, stranger = cohort(args.people, seed)
            clean = [measured(scan) for scan in track(scans, "Measuring")]
            n_clean += len(clean)
            clean_alarms += [(v.case, v.reasons) for v in judge(clean) if v.verdict != "pass"]
        more, others = plant_all(scans, stranger, clean, seed)
        trials += more
        alarms += others
    text = report(args, len(scans), trials, alarms, n_clean, clean_alarms)
    if args.out is None:
        print(text)
    else:
        write_text(args.out, text)


def report(args, n_scans, trials, alarms, n_clean, clean_alarms) -> str:
    found = sum(trial.found for trial in trials)
    what = "simulated people" if args.people else "made-up heads"
    verdicts = Counter(trial.outcome for trial in trials)
    lines = [
        f"# Planted faults in cohorts of {n_scans} {what}",
        "",
        f"Seeds {', '.join(map(str, args.seeds))}: {found} of {len(trials)} faults found "
        f"({100 * found / len(trials):.1f} %), of {len({trial.fault.kind for trial in trials})} kinds; "
        f"{', '.join(f'{count} {name}' for name, count in sorted(verdicts.items()))}.",
        f"Clean cohorts: {len(clean_alarms)} of {n_clean} cases alarmed. "
        f"Beside faults: {len({case for case, _ in alarms})} clean cases alarmed.",
        "",
        "| kind | fault | found | verdict | first reason |",
        "| --- | --- | --- | --- | --- |",
    ]
    for trial in trials:
        first = trial.reasons.split("; ")[0].replace("|", "/") if trial.found else ""
        lines.append(
            f"| {trial.fault.kind} | {trial.fault.name} | {'yes' if trial.found else '**no**'} | "
            f"{trial.outcome} | {first} |"
        )
    lines += [f"\nFalse alarm: {case}: {reasons}" for case, reasons in (*clean_alarms, *alarms)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
