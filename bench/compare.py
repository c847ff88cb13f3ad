"""What a new run says of the results that are checked in: what is worse, and what is not there any more."""

WORSE = 1.15
# What tells a row from the others of its part; the first column, where nothing is said here.
LABELS = {"gpu": ("network", "batch", "decoders"), "harm": ("syntax",)}
# Parts whose aims don't depend on the machine: one that was met has to be met.
AIMS = {"harm"}
# Rows of files that only some machines have (bench/inputs.py): no fault when they are gone.
SOMETIMES = "real "


def label(part, row):
    names = LABELS.get(part) or list(row)[:1]
    return ", ".join(str(row[name]) for name in names if row.get(name) is not None)


def figure(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def compare(old, new, parts):
    """A line for each fault of these parts, and how many ratios were compared.

    Only ratios are compared: absolute times don't travel. A ratio is better when it is greater, and worse when it is by more than
    15 % smaller; a row or a ratio that was there and is gone is lost.
    """
    faults, compared = [], 0
    for part in parts:
        now = {label(part, row): row for row in new.get(part, {}).get("rows", [])}
        for before in old.get(part, {}).get("rows", []):
            name = label(part, before)
            row = now.get(name)
            if row is None:
                if not name.startswith(SOMETIMES):
                    faults.append(f"LOST: {part}, {name}: this row was there before")
                continue
            for ratio in (column for column in before if column.endswith("ratio") and figure(before[column])):
                if not figure(row.get(ratio)):
                    faults.append(f"LOST: {part}, {name}, {ratio}: {before[ratio]:.3g} before, nothing now")
                    continue
                compared += 1
                if row[ratio] * WORSE < before[ratio]:
                    faults.append(f"WORSE: {part}, {name}, {ratio}: {before[ratio]:.3g} before, {row[ratio]:.3g} now")
            if part in AIMS and before.get("aim") == "met" and row.get("aim") != "met":
                faults.append(f"WORSE: {part}, {name}: its aim was met before")
    return faults, compared
