#!/usr/bin/env python3
"""Puts the figures of the long runs into docs/reliability.md and docs/hostile.md, between `<!-- figures: NAME -->` and
`<!-- end -->`. The harnesses leave them as target/figures/NAME.json (tests/common/figures.rs); what has none stays as it is.
"""
import json, os, re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIGURES = os.path.join(ROOT, "target/figures")
PAGES = ["docs/reliability.md", "docs/hostile.md"]


def cell(text):
    return f"{int(text):,}" if re.fullmatch(r"\d{5,7}", text) else text


def table(figures):
    columns = figures["columns"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in figures["rows"]]
    note = "{date}, commit {commit}, {build}, {cores} cores, load {load}".format(**figures)
    return "\n".join(["", *lines, "", f"*{note}*", ""])


def write():
    for page in PAGES:
        path = os.path.join(ROOT, page)
        with open(path) as file:
            text = file.read()

        def fill(match):
            kept = os.path.join(FIGURES, match[1] + ".json")
            if not os.path.exists(kept):
                return match[0]
            with open(kept) as file:
                return f"<!-- figures: {match[1]} -->{table(json.load(file))}<!-- end -->"

        filled = re.sub(r"<!-- figures: ([a-z-]+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)
        if filled != text:
            with open(path, "w") as file:
                file.write(filled)
            print(f"{page}: figures written")


if __name__ == "__main__":
    write()
