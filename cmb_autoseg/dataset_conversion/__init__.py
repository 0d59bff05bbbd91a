"""From a cohort's own files, described by a card, to one raw dataset."""

from cmb_autoseg.dataset_conversion.card import card_json_schema
from cmb_autoseg.dataset_conversion.card_file import parse_card, shipped_cards
from cmb_autoseg.dataset_conversion.conversion import Conversion, convert, merge_cases, workspace_salt
from cmb_autoseg.dataset_conversion.dataset_tables import ConversionRecord
from cmb_autoseg.dataset_conversion.labels import LabelResult, count_lesions, read_label
from cmb_autoseg.dataset_conversion.sorting.resolver import Cohort, Exclusion, find_cases, read_card

__all__ = [
    "Cohort",
    "Conversion",
    "ConversionRecord",
    "Exclusion",
    "LabelResult",
    "card_json_schema",
    "convert",
    "count_lesions",
    "find_cases",
    "merge_cases",
    "parse_card",
    "read_card",
    "read_label",
    "shipped_cards",
    "workspace_salt",
]
