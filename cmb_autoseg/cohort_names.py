"""What a cohort may be called, in its card and with `cmb_simulate --name`; standard library only."""

import re

__all__ = ["COHORT_NAME", "check_cohort_name"]

COHORT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def check_cohort_name(name: str) -> str:
    """The name, if a cohort may be called so.

    Raises:
        ValueError: it may not; says what is legal.
    """
    if not re.fullmatch(COHORT_NAME, name):
        raise ValueError(
            f"found {name!r}; use letters, digits, _ . and -, with a letter or digit first, as in SIMULATED_2"
        )
    return name
