"""Tables and figures beside the page, and what a second evaluation in the same folder leaves of the first."""

from cmb_autoseg.evaluation.reporting.shown_files import write_shown


def test_what_a_second_evaluation_does_not_have_is_deleted_and_other_files_stay(tables, pictures, page, tmp_path):
    write_shown(tables, pictures, page.cases, tmp_path)
    n_of_cases = sum(len(view.pictures) for view in page.cases)
    assert n_of_cases
    assert len(list((tmp_path / "figures").glob("case_*_slice_*.png"))) == n_of_cases
    assert len(list((tmp_path / "figures").iterdir())) == n_of_cases + len(pictures)
    for folder in ("tables", "figures"):
        (tmp_path / folder / "mine.png").touch()
    few = [table for table in tables if table.name != "systems"]
    write_shown(few, [p for p in pictures if p.name != "systems_froc"], page.cases[:1], tmp_path)
    assert not list((tmp_path / "tables").glob("systems.*"))
    assert not (tmp_path / "figures" / "systems_froc.png").exists()
    assert len(list((tmp_path / "figures").glob("case_*"))) == len(page.cases[0].pictures)
    assert len(list(tmp_path.rglob("mine.png"))) == 2
