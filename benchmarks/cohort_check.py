"""Seconds and memory of `cmb_cohort check` on a cohort of 10,000 people, as files and as zip archives.

    python benchmarks/cohort_check.py [--people 10000] [--folder DIR] [--layout files|zips]

Each person has two small NIfTI images and a mask (.nii.gz), real files all of them; of `zips` the images lie in an
archive a person, as UK Biobank's bulk downloads do. The tree is made once and kept in the folder.
"""

import argparse
import gzip
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np

CARDS = {
    "files": """schema: 1
name: MANY
images:
  SWI: {role: swi, path: "{sub}/SWI.nii.gz"}
  T1: {role: t1, path: "{sub}/T1.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub}/CMB.nii.gz"}
""",
    "zips": """schema: 1
name: MANY
images:
  SWI: {role: swi, path: "{sub}.zip!/SWI/SWI.nii.gz"}
  T1: {role: t1, path: "{sub}.zip!/T1/T1.nii.gz"}
labels:
  cmb: {kind: mask, path: "masks/{sub}.nii.gz"}
""",
}
SHAPE = (24, 24, 12)


def packed(data: np.ndarray) -> bytes:
    image = nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0]))
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def make(folder: Path, layout: str, people: int) -> None:
    """Write the cohort, the card last; a folder that has one is left as it is."""
    if (folder / "card.yaml").exists():
        return
    mask = packed(np.zeros(SHAPE, np.uint8))
    for number in range(people):
        rng = np.random.default_rng(number)
        images = [packed(rng.integers(0, 1000, SHAPE).astype(np.int16)) for _ in range(2)]
        if layout == "files":
            person = folder / f"p{number:05d}"
            person.mkdir(parents=True)
            for name, content in zip(("SWI", "T1", "CMB"), (*images, mask), strict=True):
                (person / f"{name}.nii.gz").write_bytes(content)
        else:
            (folder / "masks").mkdir(parents=True, exist_ok=True)
            (folder / "masks" / f"p{number:05d}.nii.gz").write_bytes(mask)
            with zipfile.ZipFile(folder / f"p{number:05d}.zip", "w") as archive:
                for name, content in zip(("SWI/SWI", "T1/T1"), images, strict=True):
                    archive.writestr(f"{name}.nii.gz", content)
    (folder / "card.yaml").write_text(CARDS[layout], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/cohort_check"))
    parser.add_argument("--layout", choices=tuple(CARDS), nargs="+", default=list(CARDS))
    args = parser.parse_args()
    for layout in args.layout:
        folder = args.folder / f"{layout}_{args.people}"
        make(folder, layout, args.people)
        code = "import sys; from cmb_autoseg.cli.cohort import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "check", str(folder / "card.yaml")]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        usable = next((line.strip() for line in done.stdout.splitlines() if "usable cases" in line), done.stderr[-300:])
        processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"{layout}: {seconds:.1f} s ({processor_s:.1f} s of processor time), most memory of a run so far "
            f"{after.ru_maxrss / 1024**2:.2f} GiB, exit {done.returncode}; {usable}",
            flush=True,
        )


if __name__ == "__main__":
    main()
