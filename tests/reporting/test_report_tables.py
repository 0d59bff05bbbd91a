"""Tables as files: what programs and people get, and LaTeX that a document takes."""

import re
import shutil
import subprocess

import pytest

from cmb_autoseg.evaluation.metrics.figure import Figure, undefined
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.reporting.latex import as_latex, escaped
from cmb_autoseg.reporting.table_files import as_markdown, write_tables
from cmb_autoseg.reporting.tables import Table, is_numeric, shown, shown_rows, undefined_cells

NASTY = '50 % of A_1 & B#2: {x} ~ \\y ^2 <3> [4] | "5" $6'


@pytest.fixture
def table():
    rows = (
        {"name": NASTY, "n": 3, "p": 0.00012, "f1": Figure(value=0.5, ci=(0.4, 0.61)), "hidden": "x"},
        {"name": "second\nline", "n": None, "p": 0.5, "f1": undefined("no reference lesion")},
        {"name": "[third]", "n": 12345, "p": None, "f1": Figure(value=1.0)},
    )
    columns = {"name": "name", "n": "n", "p": "p", "f1": "F1 (95 % CI)"}
    return Table("my_table", "Title & more", columns, rows, ("A note: 95 %.",), frozenset({"p"}), ("hidden",))


def test_cells_for_people(table):
    assert [cells[1:] for cells in shown_rows(table)] == [
        ["3", "0.00012", "0.500 (0.400 to 0.610)"],
        ["", "0.5", "n/a"],
        ["12345", "", "1.000 (n/a)"],
    ]
    assert [is_numeric(table, key) for key in table.columns] == [False, True, True, True]
    assert undefined_cells(table) == {"F1 (95 % CI)": "no reference lesion"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000021, "0.000021"),
        (0.99998, "0.999980"),
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.05, "0.050"),
        (0.0051, "0.005"),
        (-0.00051, "-0.00051"),
        (1.0004, "1.000"),
        (-1e-12, "0.000"),
        (12.3456, "12.346"),
    ],
)
def test_a_small_rate_is_not_shown_as_zero(value, text):
    assert shown(Figure(value=value), significant=True) == f"{text} (n/a)"


def test_programs_get_every_digit_and_both_ends(table, tmp_path):
    write_tables([table], tmp_path, "simulated")
    rows = read_tsv(tmp_path / "my_table.tsv")
    assert list(rows[0]) == ["name", "n", "p", "f1", "f1_low", "f1_high", "hidden"]
    assert [rows[0][key] for key in ("f1", "f1_low", "f1_high", "hidden")] == ["0.5", "0.4", "0.61", "x"]
    assert [rows[1][key] for key in ("f1", "f1_low", "f1_high", "n")] == ["n/a"] * 4
    content = read_json(tmp_path / "my_table.json")
    assert (content["title"], content["data"], content["notes"]) == ("Title & more", "simulated", ["A note: 95 %."])
    assert content["rows"][1]["f1"] == {"value": None, "ci": None, "why": "no reference lesion"}
    assert content["rows"][0]["f1"] == {"value": 0.5, "ci": [0.4, 0.61]}
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_tables([table], tmp_path, "simulated")
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_markdown_keeps_its_columns(table):
    lines = as_markdown(table).splitlines()
    assert lines[0] == "| name | n | p | F1 (95 % CI) |"
    assert lines[3] == "| second line |  | 0.5 | n/a |"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}


def test_latex_has_caption_notes_and_as_many_cells_as_columns(table):
    text = as_latex(table, "simulated")
    assert r"\caption{Title \& more (simulated data)}\label{tab:my-table}" in text
    assert re.search(
        r"\\begin\{tabular\}\{@\{\}>\{\\raggedright\\arraybackslash\}p\{0\.\d\d\\linewidth\}rrr@\{\}\}", text
    )
    assert "A note: 95 \\%." in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 3
    for line in body:
        assert line.endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", line)) == 3
        assert not re.search(r"(?<!\\)[%#_$](?![^$]*\$)", line)
    assert body[2].startswith("{[}third{]}")
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_braces_are_balanced(table):
    plain = re.sub(r"\\[{}]", "", as_latex(table))
    assert plain.count("{") == plain.count("}")


def test_escaping_is_complete():
    assert escaped("a\\b{c}") == r"a\textbackslash{}b\{c\}"
    assert escaped("x ≥ 2 ± 1") == r"x $\geq$ 2 $\pm$ 1"


def test_a_long_table_goes_over_pages():
    rows = tuple({"a": f"row {n}", "b": n} for n in range(50))
    text = as_latex(Table("long", "Long", {"a": "A", "b": "B"}, rows))
    assert r"\begin{longtable}{@{}lr@{}}" in text
    assert r"\resizebox" not in text


def wide_table(n_rows, n_figures):
    """Of groups with a number and many figures, as those of subgroups."""
    figures = {f"f{n}": f"name of figure {n}" for n in range(n_figures)}
    row = {"by": "scanner", "group": "A", "n": 12, **{key: Figure(value=0.5, ci=(0.4, 0.6)) for key in figures}}
    return Table("wide", "Wide", {"by": "by", "group": "group", "n": "cases", **figures}, (row,) * n_rows)


def test_a_wide_table_is_split_into_panels_that_repeat_its_labels():
    text = as_latex(wide_table(3, 14))
    assert r"\resizebox" not in text
    heads = [line for line in text.splitlines() if line.startswith("by & group & ")]
    assert len(heads) > 1
    assert [name for head in heads for name in re.findall(r"name of figure \d+", head)] == [
        f"name of figure {n}" for n in range(14)
    ]
    assert "Left out" not in text


def test_panels_beyond_a_page_are_left_to_the_other_files_and_named():
    text = as_latex(wide_table(12, 14))
    assert text.count(r"\toprule") == 3
    assert "Left out for want of room, but in wide.tsv: name of figure" in text
    assert "name of figure 13." in text


def overfull(tables, folder):
    """Points by which boxes stick out of the page, with a document made of tables."""
    body = "\n".join(as_latex(one, "simulated") for one in tables)
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,array,graphicx,longtable}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (folder / "all.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    return [float(points) for points in re.findall(r"Overfull \\hbox \((\d+\.\d+)pt", done.stdout)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles_and_stays_on_the_page(table, tmp_path):
    prose = "mean distance of confidence and share of right candidates, 10 bins of equal width weighed by candidates"
    long_row = {
        "figure": "absolute volume difference, mm3",
        "is": prose,
        "key": "voxel.absolute_volume_difference_mean",
    }
    columns = {"figure": "figure", "is": "definition", "key": "key in metrics.json"}
    tables = [
        table,
        Table("long", "Long", {"a": "A"}, tuple({"a": NASTY} for _ in range(40)), ("note",)),
        Table("definitions", "Definitions", columns, (long_row,) * 40),
        wide_table(3, 14),
        wide_table(40, 14),
    ]
    assert all(points < 5 for points in overfull(tables, tmp_path))
