"""Bar charts as SVG, readable on light and on dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 15px; }
.figure { font-variant-numeric: tabular-nums; }
.note { font-size: 12px; fill: #57606a; }
.ours { fill: #0f766e; } .other { fill: #b6bec9; } .base { fill: #d97706; }
.first { fill: #99c9c4; } .second { fill: #0f766e; } .third { fill: #134e4a; }
text.bold { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .ours { fill: #2dd4bf; } .other { fill: #57606a; } .base { fill: #f59e0b; }
  .first { fill: #1d4f4b; } .second { fill: #2dd4bf; } .third { fill: #99f6e4; }
}
"""
WIDTH, LABELS, FIGURES, GAP = 760, 250, 110, 22
BAR, STEP, TITLE = 14, 19, 30


@dataclass(frozen=True)
class Bar:
    value: float
    text: str
    kind: str


@dataclass(frozen=True)
class Group:
    """The bars beside one label; a bold one is what the picture is about."""

    label: str
    bars: Sequence[Bar]
    is_bold: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    groups: Sequence[Group]


def bar_chart(description: str, panels: Sequence[Panel], note: str) -> str:
    height = sum(_height(panel) for panel in panels) + 24
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
    )
    SubElement(svg, "title").text = description
    SubElement(svg, "style").text = STYLE
    top = 0
    for panel in panels:
        _draw(svg, panel, top)
        top += _height(panel)
    _text(svg, note, 0, top + 12, "note")
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


def _height(panel: Panel) -> int:
    return TITLE + sum(len(group.bars) * STEP + _space(group) for group in panel.groups) + GAP


def _space(group: Group) -> int:
    return 6 if len(group.bars) > 1 else 0


def _draw(svg: Element, panel: Panel, top: int) -> None:
    _text(svg, panel.title, 0, top + 18, "title")
    top += TITLE
    longest = max(bar.value for group in panel.groups for bar in group.bars)
    for group in panel.groups:
        weight = " bold" if group.is_bold else ""
        middle = top + len(group.bars) * STEP / 2 + 4
        _text(svg, group.label, LABELS - 10, middle, weight.strip(), anchor="end")
        for bar in group.bars:
            width = max(1.0, bar.value / longest * (WIDTH - LABELS - FIGURES))
            box = {"x": LABELS, "y": top + 2, "width": round(width, 1), "height": BAR, "rx": 2}
            attributes = {name: str(value) for name, value in box.items()}
            SubElement(svg, "rect", attributes | {"class": bar.kind})
            _text(svg, bar.text, LABELS + width + 7, top + 13.5, f"figure{weight}")
            top += STEP
        top += _space(group)


def _text(
    svg: Element, text: str, x: float, y: float, kind: str = "", *, anchor: str = "start"
) -> None:
    place = {"x": f"{x:g}", "y": f"{y:g}"}
    if kind:
        place["class"] = kind
    if anchor != "start":
        place["text-anchor"] = anchor
    SubElement(svg, "text", place).text = text
