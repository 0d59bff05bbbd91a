"""`qc.html`: one row a case with its pictures, figures, verdict and reasons, in one file without network."""

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from cmb_autoseg.files import write_text
from cmb_autoseg.quality_control.findings import CohortCase, Verdict
from cmb_autoseg.quality_control.tables import quality_rows
from cmb_autoseg.quality_control.thumbnails import THUMBNAIL_SUFFIX, draw_case

__all__ = ["draw_case", "write_gallery"]

MOST_EMBEDDED = 1000
"""Pictures of more cases would make a file of tens of megabytes; they are then referred to."""
SHOWN = (
    ("brain_ml", "brain", "ml"),
    ("coverage", "coverage", ""),
    ("n_lesions", "lesions", ""),
    ("largest_lesion_mm", "largest", "mm"),
    ("lesion_contrast", "lesion contrast", ""),
)
SHOWN_OF_SEQUENCE = (("spacing_mm", ""), ("snr", "SNR"), ("contrast", "contrast"), ("ghost", "ghost"))
STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem;background:#fafafa;color:#222}
h1{font-size:1.3rem} table{border-collapse:collapse;background:#fff;width:100%}
th,td{border-bottom:1px solid #ddd;padding:.4rem .6rem;vertical-align:top;text-align:left}
th{position:sticky;top:0;background:#eee;cursor:pointer;white-space:nowrap}
td.figures{font-size:12px;white-space:nowrap;color:#444} td.reasons{min-width:16rem}
img{display:block;background:#000;height:112px} .none{color:#888}
.verdict{font-weight:600;border-radius:.3rem;padding:.05rem .4rem}
.pass .verdict{background:#d9f2df;color:#145a26} .review .verdict{background:#fff0c7;color:#6b4b00}
.fail .verdict{background:#fbd9d6;color:#8a1208}
label{margin-right:1rem} ul{margin:0;padding-left:1.1rem} li.note{color:#777}
input[type=search]{padding:.25rem .5rem;width:16rem}
"""
SCRIPT = """
const rows=[...document.querySelectorAll('tbody tr')],body=document.querySelector('tbody');
const boxes=[...document.querySelectorAll('input[type=checkbox]')],find=document.querySelector('input[type=search]');
function filter(){const on=new Set(boxes.filter(b=>b.checked).map(b=>b.value)),text=find.value.toLowerCase();let n=0;
for(const r of rows){const show=on.has(r.dataset.verdict)&&(!text||r.textContent.toLowerCase().includes(text));
r.hidden=!show;n+=show}document.querySelector('#shown').textContent=n}
boxes.forEach(b=>b.addEventListener('change',filter));find.addEventListener('input',filter);
document.querySelectorAll('th[data-key]').forEach(h=>h.addEventListener('click',()=>{
const key=h.dataset.key,down=h.dataset.down==='1';h.dataset.down=down?'':'1';
rows.sort((a,b)=>(a.dataset[key]).localeCompare(b.dataset[key],undefined,{numeric:true})*(down?-1:1));
rows.forEach(r=>body.appendChild(r))}));
"""


def write_gallery(
    path: Path,
    title: str,
    cases: Sequence[CohortCase],
    verdicts: Sequence[Verdict],
    pictures: Path,
    excluded: Sequence[str] = (),
) -> None:
    """Write the gallery.

    Args:
        path: of the page, `qc.html`.
        title: the dataset's name.
        cases: in the order of the rows; the worst verdicts are shown first.
        verdicts: of all cases.
        pictures: folder with `<case>.jpg` from `draw_case`; a case without one is shown without. Pictures are
            part of the page for up to 1000 cases, otherwise it refers to them and needs the folder beside it.
        excluded: cases that were left out of the dataset for their verdict.
    """
    judged = {verdict.case: verdict for verdict in verdicts}
    left_out = set(excluded)
    rows = sorted(quality_rows(cases, verdicts), key=lambda row: ("fail", "review", "pass").index(row["verdict"]))
    embed = len(rows) <= MOST_EMBEDDED
    counts = Counter(row["verdict"] for row in rows)
    boxes = "".join(
        f'<label><input type="checkbox" value="{name}" checked> {name} ({counts[name]})</label>'
        for name in ("fail", "review", "pass")
    )
    body = "\n".join(
        _row(row, judged[row["case"]], _picture(pictures, row["case"], path, embed), row["case"] in left_out)
        for row in rows
    )
    heads = (("case", "case"), ("cohort", "cohort"), ("verdict", "verdict"))
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: quality control</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}: quality control</h1>"
        "<p>Each row shows the reference sequence in three planes (brain outlined in green, lesions ringed in red, the "
        "patient's right on the left) and one slice of each other sequence. Figures of all cases are in qc.tsv.</p>"
        f'<p>{boxes}<input type="search" placeholder="case, site, reason"> <span id="shown">{len(rows)}</span> of '
        f"{len(rows)} cases</p><table><thead><tr>"
        + "".join(f'<th data-key="{key}">{name}</th>' for key, name in heads)
        + f"<th>pictures</th><th>reasons</th><th>figures</th></tr></thead><tbody>{body}</tbody></table>"
        f"<script>{SCRIPT}</script></body></html>\n",
    )


def _picture(folder: Path, case: str, page: Path, embed: bool) -> str:
    file = folder / f"{case}{THUMBNAIL_SUFFIX}"
    if not file.is_file():
        return '<span class="none">no picture</span>'
    if embed:
        source = f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
    else:
        source = escape(file.relative_to(page.parent).as_posix(), quote=True)
    return f'<img loading="lazy" alt="views of {escape(case, quote=True)}" src="{source}">'


def _row(row: dict[str, Any], verdict: Verdict, picture: str, excluded: bool) -> str:
    case, cohort, name = (escape(str(row[key]), quote=True) for key in ("case", "cohort", "verdict"))
    order = {"fail": 0, "review": 1, "note": 2}
    findings = sorted(verdict.findings, key=lambda finding: order[finding.level])
    reasons = "".join(f'<li class="{finding.level}">{escape(finding.text)}</li>' for finding in findings)
    return (
        f'<tr class="{name}" data-case="{case}" data-cohort="{cohort}" data-verdict="{name}"><td>{case}</td>'
        f'<td>{cohort}</td><td><span class="verdict">{name}</span>{"<br>left out" if excluded else ""}</td>'
        f'<td>{picture}</td><td class="reasons">{f"<ul>{reasons}</ul>" if reasons else ""}</td>'
        f'<td class="figures">{_figures(row)}</td></tr>'
    )


def _figures(row: dict[str, Any]) -> str:
    parts = [f"{words} {row[key]:.4g} {unit}".strip() for key, words, unit in SHOWN if row.get(key) is not None]
    roles = [key.removesuffix("_spacing_mm") for key in row if key.endswith("_spacing_mm")]
    for role in roles:
        told = [_told(row.get(f"{role}_{name}"), words) for name, words in SHOWN_OF_SEQUENCE]
        parts.append(f"<b>{escape(role)}</b> " + ", ".join(text for text in told if text))
    return "<br>".join(parts)


def _told(value: Any, words: str) -> str:
    if value is None:
        return ""
    return f"{words} {value:.3g}".strip() if isinstance(value, float) else f"{words} {escape(str(value))}".strip()
