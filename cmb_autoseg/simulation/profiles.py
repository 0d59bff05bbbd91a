"""What a layout's cohort is like: its scanners and protocols, its people and how often what occurs in them.

Numbers only. They are typical of the cohort that the layout is named after, as far as it is published;
none is measured on its scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cmb_autoseg.simulation.contents.microbleeds import Aetiology, Habits
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol

__all__ = ["PROFILES", "Demographics", "Profile", "Scanner", "scanners_of"]


@dataclass(frozen=True)
class Scanner:
    """One scanner of a cohort and the protocol that it runs."""

    vendor: str
    model: str
    protocol: str
    """Name of one of `PROTOCOLS`, whose field strength is the scanner's."""
    share: float = 1.0
    """Of the cohort's people; shares need not add up to 1."""


@dataclass(frozen=True)
class Demographics:
    """Who takes part."""

    mean_age: float = 71.0
    age_sd: float = 8.0
    female_share: float = 0.52


@dataclass(frozen=True)
class Profile:
    """What a cohort is like."""

    scanners: tuple[Scanner, ...]
    demographics: Demographics = Demographics()
    lesion_free_share: float = 0.33
    """Of the people, those without any microbleed."""
    habits: Habits = field(default_factory=Habits)
    sites_by_protocol: bool = False
    """Protocols say the site, which the subjects' names tell; else each scanner is a site of its own."""


def _mix(amyloid: float, hypertensive: float, mixed: float) -> dict[Aetiology, float]:
    return {Aetiology.AMYLOID: amyloid, Aetiology.HYPERTENSIVE: hypertensive, Aetiology.MIXED: mixed}


PROFILES: dict[str, Profile] = {
    # 72 training cases of three sites, 22 of them without microbleeds (Sudre et al. 2024).
    "valdo": Profile(
        (
            Scanner("Philips", "Achieva", "valdo_1", 0.2),
            Scanner("GE", "Signa Excite", "valdo_2", 0.5),
            Scanner("GE", "Discovery MR750", "valdo_3", 0.3),
        ),
        Demographics(70.0, 9.0, 0.5),
        lesion_free_share=0.31,
        sites_by_protocol=True,
    ),
    # A memory clinic with whatever scanners it has.
    "bids": Profile(
        (
            Scanner("Siemens", "Prisma", "swi_3t", 0.35),
            Scanner("GE", "SIGNA Premier", "swan_3t", 0.15),
            Scanner("Philips", "Ingenia", "oblique_3t", 0.2),
            Scanner("Siemens", "Avanto", "swi_15t", 0.2),
            Scanner("Siemens", "Magnetom 7T", "swi_7t", 0.1),
        ),
        Demographics(72.0, 8.0, 0.53),
        lesion_free_share=0.4,
        habits=Habits(aetiology_shares=_mix(0.45, 0.25, 0.30)),
    ),
    # The general population: few have any, and those who do have few.
    "ukb": Profile(
        (Scanner("Siemens", "Skyra", "ukb"),),
        Demographics(64.0, 7.6, 0.53),
        lesion_free_share=0.7,
        habits=Habits(aetiology_shares=_mix(0.35, 0.30, 0.35), mean_count=2.2),
    ),
    # Trials and cohorts of Alzheimer's disease: 2D gradient echo, amyloid prevails.
    "dicom": Profile(
        (
            Scanner("Siemens", "Skyra", "adni_gre", 0.8),
            Scanner("GE", "Signa HDxt", "thick_5mm", 0.2),
        ),
        Demographics(74.0, 7.0, 0.48),
        lesion_free_share=0.55,
        habits=Habits(aetiology_shares=_mix(0.6, 0.15, 0.25)),
    ),
    # Twenty public scans, all with microbleeds (74 in all): patients with stroke, and some others.
    "dou": Profile(
        (Scanner("Philips", "Achieva", "dou_swi"),),
        Demographics(66.0, 12.0, 0.45),
        lesion_free_share=0.0,
        habits=Habits(aetiology_shares=_mix(0.2, 0.45, 0.35), mean_count=3.7),
    ),
    # AIBL: scans with definite microbleeds and scans without.
    "csiro": Profile(
        (Scanner("Siemens", "Trio", "aibl_swi"),),
        Demographics(75.0, 7.0, 0.52),
        lesion_free_share=0.4,
        habits=Habits(aetiology_shares=_mix(0.55, 0.15, 0.30), mean_count=3.0),
    ),
    # Slices of clinical scans, as collections for detectors of boxes have them.
    "boxes2d": Profile(
        (
            Scanner("GE", "Optima MR450w", "thick_5mm", 0.5),
            Scanner("Siemens", "Avanto", "swi_15t", 0.5),
        ),
        Demographics(68.0, 11.0, 0.47),
        lesion_free_share=0.3,
        habits=Habits(aetiology_shares=_mix(0.25, 0.40, 0.35), mean_count=6.0),
    ),
}
"""By layout."""


def scanners_of(profile: Profile, protocols: Sequence[Protocol] | None) -> list[tuple[Scanner, Protocol]]:
    """The scanners of a cohort with the protocols that they run.

    Args:
        profile: of the cohort.
        protocols: what is to be run instead of the profile's own mix, in equal shares. Each runs on the
            profile's scanner for it, or on one of the protocol's vendor.
    """
    if protocols is None:
        return [(scanner, PROTOCOLS[scanner.protocol]) for scanner in profile.scanners]
    own = {scanner.protocol: scanner for scanner in profile.scanners}
    chosen = []
    for protocol in protocols:
        known = own.get(protocol.name)
        vendor, model = (known.vendor, known.model) if known else (protocol.vendor, "simulated")
        chosen.append((Scanner(vendor, model, protocol.name), protocol))
    return chosen
