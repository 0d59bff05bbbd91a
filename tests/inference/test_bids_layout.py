import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.bids_layout import bids_name


@pytest.mark.parametrize(
    ("name", "subject", "session", "expected"),
    [
        ("sub-01", "sub-01", None, "sub-01"),
        ("sub-01_ses-2", "sub-01", "ses-2", "sub-01_ses-2"),
        ("sub-01_ses-2_acq-x_swi", None, None, "sub-01_ses-2"),
        ("p 2 (a)_swi", None, None, "sub-p2aswi"),
        ("p1_2", "p1", "2", "sub-p1_ses-2"),
        ("Case-7", "Case-7", None, "sub-Case7"),
    ],
)
def test_cases_get_bids_names(name, subject, session, expected):
    assert bids_name(name, subject, session) == expected


def test_a_name_without_letters_is_refused():
    with pytest.raises(InputError, match="___: no letter or digit"):
        bids_name("___")
