from cmb_autoseg.evaluation.reporting.page import render


def test_page(page, tmp_path):
    import os
    from pathlib import Path

    text = render(page)
    Path(os.environ.get("PAGE_OUT", str(tmp_path / "report.html"))).write_text(text)
