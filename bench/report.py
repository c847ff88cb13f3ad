#!/usr/bin/env python3
"""Puts the tables of bench/results.json into docs/performance.md, between `<!-- table: PART -->` and `<!-- end -->`, and draws how
long records grow.

`make bench` does so after each part; the text around the tables is written by people.
"""
import json, math, os, re

from inputs import HERE, ROOT

RESULTS = os.path.join(HERE, "results.json")
PAGE = os.path.join(ROOT, "docs/performance.md")
PICTURE = os.path.join(ROOT, "docs/pictures/scale.svg")


def cell(value):
    if value is None or value == "":
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(part):
    rows = part["rows"]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows]
    where = part["machine"]
    note = f"{where['date']}, commit {where['commit']}, {where['cores']} × {where['cpu']}{', ' + where['gpu'] if where.get('gpu') else ''}, load {where['load']:.1f} at the start, {part['seconds']} s"
    return "\n".join(["", *lines, "", f"*{note}*", ""])


def write():
    with open(RESULTS) as file:
        parts = json.load(file)["parts"]
    with open(PAGE) as file:
        text = file.read()

    def fill(match):
        part = parts.get(match[1])
        return f"<!-- table: {match[1]} -->{table(part) if part else chr(10) + '*Not measured yet.*' + chr(10)}<!-- end -->"

    with open(PAGE, "w") as file:
        file.write(re.sub(r"<!-- table: ([a-z-]+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL))
    if "records" in parts:
        figures = ["rebuild s", "start s, whole ledger", "start s, checkpoint", "memory MiB", "by UID p99 ms", "count p99 ms"]
        growth(parts["records"]["rows"], "entries", figures)


def growth(rows, across, figures):
    """A log-log picture of how figures grow, as SVG."""
    width, height, left, top = 640, 360, 70, 30
    values = [row[figure] for row in rows for figure in figures if row.get(figure)]
    if len(rows) < 2 or not values:
        return
    x0, x1 = math.log10(rows[0][across]), math.log10(rows[-1][across])
    y0, y1 = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = lambda value: left + (width - left - 150) * (math.log10(value) - x0) / (x1 - x0)
    y = lambda value: top + (height - top - 50) * (1 - (math.log10(value) - y0) / max(y1 - y0, 1))
    colours = ["#1b6ca8", "#c0504d", "#4f9d4f", "#8064a2", "#d08a2e", "#555555"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for power in range(y0, y1 + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{left}" x2="{width - 150}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for row in rows:
        parts.append(f'<text x="{x(row[across]):.1f}" y="{height - 28}" text-anchor="middle">{row[across]:,}</text>')
    parts.append(f'<text x="{(left + width - 150) / 2}" y="{height - 8}" text-anchor="middle">{across}</text>')
    for number, figure in enumerate(figures):
        points = [(x(row[across]), y(row[figure])) for row in rows if row.get(figure)]
        colour = colours[number % len(colours)]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        parts.append(f'<text x="{width - 142}" y="{top + 18 * number + 10}" fill="{colour}">{figure}</text>')
    with open(PICTURE, "w") as file:
        file.write("\n".join([*parts, "</svg>", ""]))


if __name__ == "__main__":
    write()
