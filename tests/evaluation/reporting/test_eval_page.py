"""The page: stands alone, is well formed, and can be used without a mouse or without seeing."""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cmb_autoseg.evaluation.metrics.figure import Figure, undefined
from cmb_autoseg.evaluation.reporting.flow import FlowStep, flow_svg
from cmb_autoseg.evaluation.reporting.page import PageContent, render
from cmb_autoseg.evaluation.reporting.sections import SECTIONS
from cmb_autoseg.reporting.tables import Table

VOID = {"meta", "link", "img", "br", "hr", "input"}
LOADS = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
NATURE_OF_SVG = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """All that the tests ask of a page; raises where tags are not balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.ids, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def text(page):
    found = render(page)
    if "PAGE_OUT" in os.environ:
        Path(os.environ["PAGE_OUT"]).write_text(found, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def parsed(text):
    return Page(text)


def test_nothing_is_loaded_from_elsewhere(parsed, text):
    for tag, attributes in parsed.tags:
        for name in LOADS:
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:60])
    styles = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in styles
    assert "@import" not in styles
    assert not parsed.all("script")
    assert not parsed.all("iframe")
    policy = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_pictures_are_inside_and_have_words(parsed, page):
    images = parsed.all("img")
    assert len(images) == len(page.pictures) + sum(len(view.pictures) for view in page.cases)
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"]) > 15


def test_every_entry_of_the_contents_and_every_label_leads_somewhere(parsed):
    assert len(parsed.ids) == len(set(parsed.ids))
    targets = [link["href"].removeprefix("#") for link in parsed.all("a")]
    labels = [name for _, attributes in parsed.tags for name in attributes.get("aria-labelledby", "").split()]
    assert set(targets) | set(labels) <= set(parsed.ids)
    sections = [attributes["aria-labelledby"] for attributes in parsed.all("section")]
    assert [target for target in targets if target != "main"] == sections


def test_headings_go_down_by_one_level(parsed):
    assert parsed.headings[0] == 1
    assert parsed.headings.count(1) == 1
    assert all(later - sooner <= 1 for sooner, later in zip(parsed.headings, parsed.headings[1:], strict=False))


def test_wide_tables_scroll_by_themselves_and_by_keys(parsed, text):
    scrolled = [attributes for attributes in parsed.all("div") if attributes.get("class") == "scroll"]
    assert len(scrolled) == len(parsed.all("table")) == text.count('<div class="scroll" role="region" tabindex="0"')


def test_every_table_and_figure_is_on_the_page(parsed, page):
    shown = {name.removeprefix("table-") for name in parsed.ids if name.startswith("table-")}
    assert {table.name for table in page.tables} <= shown
    known = {name for section in SECTIONS for name in (*section.tables, *section.folded)} | {"definitions"}
    assert {table.name for table in page.tables} <= known, "a table without a section of its own"


def test_text_is_escaped(text):
    assert "cohort/labels &lt;masks&gt;" in text
    assert "&lt;C&gt;" in text
    assert "A &amp; B" in text
    assert "<masks>" not in text
    assert "<C>" not in text


def test_simulated_data_are_told_first(text, page):
    assert text.index("Simulated data.") < text.index("<nav")
    assert "Simulated data." not in render(replace(page, data=""))


def test_undefined_figures_say_why(text):
    assert "voxel ROC AUC" in text
    assert "no case has a probability map" in text
    small = PageContent("t", "valdo", "d", headline={"F1": undefined("no reference lesion")})
    assert "n/a<small>no reference lesion</small>" in render(small)


def test_the_smallest_page_is_well_formed():
    parsed = Page(render(PageContent("Nothing", "valdo", "d")))
    assert {"evaluated", "definitions", "main"} <= set(parsed.ids)
    assert "failures" not in parsed.ids


def test_an_unknown_table_is_shown_all_the_same():
    table = Table("news", "News <1>", {"a": "A"}, ({"a": Figure(value=0.5)},), ("note & note",))
    text = render(PageContent("t", "valdo", "d", tables=[table]))
    assert 'href="#further"' in text
    assert "News &lt;1&gt;" in text
    assert "note &amp; note" in text


def test_the_same_content_gives_the_same_page(text, page):
    assert render(page) == text


def test_flow_tells_numbers_in_boxes_and_in_words():
    steps = (FlowStep("found", 5, (("no prediction", 2), ("never", 0))), FlowStep("scored <b>", 3))
    drawn = str(flow_svg(steps))
    Page(drawn)
    assert "found: 5 (left out: 2 no prediction); scored &lt;b&gt;: 3." in drawn
    assert re.findall(r">n = (\d+)<", drawn) == ["5", "3"]
    assert drawn.count("<rect") == 3
    assert "never" not in drawn


def test_boxes_of_the_flow_do_not_overlap():
    reasons = tuple((f"a reason that is so long that it takes several lines, number {n}", n + 1) for n in range(4))
    drawn = str(flow_svg((FlowStep("first", 30, reasons), FlowStep("second", 20, reasons[:1]), FlowStep("third", 19))))
    boxes = [tuple(map(int, found)) for found in re.findall(r'y="(\d+)" width="\d+" height="(\d+)"', drawn)]
    ends = 0
    for y, height in boxes:
        assert y >= ends
        ends = y + height
    assert ends <= int(re.search(r'viewBox="0 0 \d+ (\d+)"', drawn)[1])


def test_cases_that_lack_something_have_a_page_without_nan(odd_page):
    text = render(odd_page)
    Page(text)
    words = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"\bnan\b", words, re.IGNORECASE)
    assert not re.search(r">\s*None\s*<", words)


def test_sections_of_comparisons_say_what_to_report_and_what_to_name_beforehand():
    said = {section.key: section.intro for section in SECTIONS}
    assert "Hoenig and Heisey 2001" in said["power"]
    assert "detectable difference" in said["power"]
    assert "DeLong" in said["systems"]
    assert "lower bounds" in said["systems"]
