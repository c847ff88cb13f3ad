#!/usr/bin/env python3
"""Puts the tables of bench/results.json into docs/performance.md, between `<!-- table: PART -->` and `<!-- end -->`.

`make bench` does so at its end; the text around the tables is written by people.
"""
import json, os, re

from inputs import HERE, ROOT

PAGE = os.path.join(ROOT, "docs/performance.md")


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
    with open(os.path.join(HERE, "results.json")) as file:
        parts = json.load(file)["parts"]
    with open(PAGE) as file:
        text = file.read()

    def fill(match):
        part = parts.get(match[1])
        return f"<!-- table: {match[1]} -->{table(part) if part else chr(10) + '*Not measured yet.*' + chr(10)}<!-- end -->"

    with open(PAGE, "w") as file:
        file.write(re.sub(r"<!-- table: ([a-z-]+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL))


if __name__ == "__main__":
    write()
