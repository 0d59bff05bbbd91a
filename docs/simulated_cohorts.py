# ruff: noqa: E501  rows of a Markdown table cannot be broken
"""The page reference/simulated-cohorts.md: layouts, scanners and protocols as the simulator has them."""

from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.profiles import PROFILES, Profile
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol

__all__ = ["simulated_cohorts_page"]

HEAD = """\
# Simulated cohorts

`cmb_simulate -o OUT -n 20 --layout NAME` writes scans as a real cohort of that kind would come, the truth beside
them, and a card for `cmb_convert`. What is modelled: [What is simulated](../concepts/simulation.md). The
tables of layouts and protocols are made from the code by `docs/generate_reference.py`.

## Layouts

"""

FILES = {
    "valdo": "skull-stripped NIfTI, one folder a subject: `T2S` (last echo), `SWI`, `T1`, mask `CMB`, as the VALDO "
    "challenge has them; the first digit of a subject is the site",
    "bids": "a valid BIDS 1.10 dataset: `T2starw`, or `MEGRE` by echo, each `part-mag` and `part-phase`; "
    "`acq-swi_T2starw` and its `rec-mIP`, `Chimap`, `T1w`; masks in `derivatives/microbleeds`",
    "ukb": "UK Biobank's bulk archives: `<eid>_20251_2_0.zip` with `SWI/SWI.nii.gz`, `SWI_TOTAL_MAG` and `SWI_TOTAL_PHA` "
    "by echo, `<eid>_20252_2_0.zip` with T1; masks in `readings/`",
    "dicom": "classic MR DICOM as ADNI hands it out: a folder a series (magnitude, phase, SWI, mIP, T1), a file a slice; "
    "masks in `masks/`, as NIfTI. `cmb_predict -i` takes the folder of a person",
    "dou": "`nii/NN.nii` (SWI) and `ground_truth/NN.mat` (`cen`: voxels counted from 1), as Dou et al. 2016",
    "csiro": "`PublicDataShare_2020/` with skull-stripped SWI by group and `rCMBInformationInfo.xlsx` (voxels counted "
    "from 1); people in `NoCMBSubject` were read and have none",
    "boxes2d": "axial SWI slices as JPEG with YOLO boxes, `classes.txt`, and `slices/` with the place of each",
}

MIDDLE = """
`card.yaml` in each cohort says how `cmb_convert` reads it. `--protocol NAME ...` replaces a layout's protocols, `--lesion-free-share` its share.
`--unlabelled` leaves masks, points and boxes out; `truth/` stays. Two cohorts of one `--seed` have the same
heads: give cohorts that go into one dataset different seeds, and different names (`--name NAME`; without it each is called
`SIMULATED`). Whatever its name, the card says `simulated: true`, and tables and figures of [`cmb_compare`](../how-to/compare-recipes.md)
on such cohorts say it too.

## Protocols

"""

TAIL = """
TE of several echoes are listed; the last makes SWI and the reference mask. Acquired voxels are larger than the
reconstructed ones where a scanner fills k-space with zeros.

## The truth

`OUT/truth/` is the same in all layouts. Coordinates are RAS millimetres of the scan. Each person is scanned once;
`session` is what the card calls that visit (`2` in `ukb`, `20200101` in `dicom`) and `n/a` elsewhere.

| file | content |
| --- | --- |
| `lesions.tsv` | one row a microbleed, also those that nobody could see; columns below |
| `mimics.tsv` | calcifications, cavernomas, old haemorrhages, siderosis, veins and arteries: kind, place, size, susceptibility. Vessels by the middle of their course, their largest radius and their length (`length_mm`); diamagnetic calcifications have a negative `chi_ppm` |
| `people.tsv` | age, sex, scanner, protocol, field strength; `snr` as the protocol asks and `measured_snr` (median of the brain); whose head (`anatomy`), aetiology, counts, seed and number (`person`, from 0); `n_other_mimics` counts all but vessels and calcifications |
| `transforms.tsv` | with `--misalign`: the matrix M, RAS to RAS, in rows (`m00` .. `m23`): T1w shows at M p what the rest shows at p. Neither `cmb_cohort check` nor `cmb_convert` undoes it |
| `raters/tight/`, `raters/loose/` | masks of a strict and of a generous rater, on the scan's grid |
| `raters/points.tsv`, `raters/boxes.tsv` | clicks near the middle of each visible microbleed (RAS millimetres), and boxes about it: first and last voxel, both inside, from 0 |
| `simulation.json` | a digest of the settings, by which an interrupted run knows its own files |

| column of `lesions.tsv` | meaning |
| --- | --- |
| `subject`, `session` | whose it is |
| `x_mm`, `y_mm`, `z_mm` | true centre |
| `visible_x_mm`, `visible_y_mm`, `visible_z_mm` | centre of what the mask shows; `n/a` when invisible |
| `radius_mm`, `chi_ppm` | of the iron core, as one ball; what is seen is larger |
| `volume_mm3` | of what the mask shows; 0 when invisible |
| `visible` | 1: its signal loss stands out of the noise and it is in the mask; 0: too faint |
| `component` | number of the mask's 26-connected component in array order (`scipy.ndimage.label`), 0 when invisible |
| `region` | `lobar`, `deep` or `infratentorial` |
| `contrast` | share of its signal that the darkest voxel loses, without noise |
| `aetiology`, `place` | `amyloid`, `hypertensive` or `mixed`; where it was put: `tissue`, `grey-white border` or `beside a vein` |
| `nearest_mimic`, `nearest_mimic_mm` | kind of the nearest thing that looks like one, and how far its surface is from the centre |

`--anatomy DIR` takes FreeSurfer-style label maps (`*.nii.gz`, `*.nii`, `*.mgz`; voxels of about 1 mm, any orientation):
aseg codes and cortical parcels; codes of SimNIBS and SynthSeg for skull, air, skin and veins are used where they are there,
and made up around the brain where not. Nuclei that the labels lack are added by position. Unknown codes are taken as
soft tissue and told, above 5 % of the brain refused.

An anatomy belongs to one person: the average head is warped anew for each (`average-SEED-NUMBER`), of `--anatomy
DIR` each person takes one label map, in the order of their names, and too few, or two alike, are refused. So test people
never share a head with others; `participants.tsv` says whose each is.
"""


def simulated_cohorts_page() -> str:
    """The page, in Markdown."""
    parts = [
        HEAD,
        "| layout | files | protocols (share) | people | lesion-free |\n",
        "| --- " * 5 + "|\n",
    ]
    parts += [_layout(name, PROFILES[name]) for name in LAYOUTS]
    parts += [MIDDLE, "| protocol | field | TE (ms) | TR (ms) | flip | voxel (mm) | matrix | SNR | besides |\n"]
    parts += ["| --- " * 9 + "|\n", *map(_protocol, PROTOCOLS.values()), TAIL]
    return "".join(parts)


def _layout(name: str, profile: Profile) -> str:
    total = sum(scanner.share for scanner in profile.scanners)
    mix = ", ".join(f"`{scanner.protocol}` ({scanner.share / total:.0%})" for scanner in profile.scanners)
    who = profile.demographics
    people = f"{who.mean_age:.0f} ± {who.age_sd:.0f} years, {who.female_share:.0%} women"
    return f"| `{name}` | {FILES[name]} | {mix} | {people} | {profile.lesion_free_share:.0%} |\n"


def _protocol(protocol: Protocol) -> str:
    echoes = ", ".join(f"{time:g}" for time in protocol.echo_times_ms)
    voxel = " x ".join(f"{step:g}" for step in protocol.spacing_mm)
    matrix = " x ".join(map(str, protocol.matrix))
    besides = []
    if protocol.acquired_mm:
        besides.append("acquired at " + " x ".join(f"{step:g}" for step in protocol.acquired_mm))
    if min(protocol.partial_fourier) < 1:
        besides.append(f"partial Fourier {min(protocol.partial_fourier):g}")
    if any(protocol.tilt_deg):
        besides.append("oblique by {:g} and {:g} degrees".format(*protocol.tilt_deg))
    if protocol.phase_sign < 0:
        besides.append("phase sign inverted")
    return (
        f"| `{protocol.name}` | {protocol.field_strength_t:g} T | {echoes} | {protocol.repetition_time_ms:g} | "
        f"{protocol.flip_angle_deg:g}° | {voxel} | {matrix} | {protocol.snr:g} | {'; '.join(besides)} |\n"
    )
