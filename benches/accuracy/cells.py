"""A cell is one contestant in one fold or draw of an experiment: a CSV file of the test rows' keys
and scores under a line of JSON with what it took and what was chosen. A file that is there is never
computed again, unless RISKFT_BENCH_AGAIN is set; riskft's side writes the same files. Its cells of
experiments that take hours can be kept in the tree, their scores to seven digits; the peers' take minutes.
"""

import json
import os
import shutil

import pandas as pd

KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cells")


def path(folder, experiment, contestant, cell):
    return os.path.join(folder, "cells", experiment, contestant, f"{cell}.csv")


def wanted(folder, experiment, contestant, cell):
    again = os.environ.get("RISKFT_BENCH_AGAIN")
    return bool(again) or not os.path.exists(path(folder, experiment, contestant, cell))


def write(folder, experiment, contestant, cell, keys, scores, notes):
    to = path(folder, experiment, contestant, cell)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    with open(to + ".new", "w", encoding="utf-8") as file:
        file.write(json.dumps(notes) + "\n")
        pd.DataFrame({"key": keys, "score": scores}).to_csv(file, index=False)
    os.replace(to + ".new", to)


def read(folder, experiment, contestant, cell):
    """Notes and scores by key; None for a cell that is not there."""
    try:
        with open(path(folder, experiment, contestant, cell), encoding="utf-8") as file:
            notes = json.loads(file.readline())
            scores = pd.read_csv(file, dtype={"key": str, "score": float})
    except FileNotFoundError:
        return None
    return notes, scores.set_index("key")["score"]


def keep(folder, experiment):
    """Copies riskft's cells of an experiment from the cache into the tree."""
    for contestant in contestants(folder, experiment):
        if not contestant.startswith("riskft"):
            continue
        of = os.path.join(folder, "cells", experiment, contestant)
        to = os.path.join(KEPT, experiment, contestant)
        os.makedirs(to, exist_ok=True)
        for name in sorted(os.listdir(of)):
            if not name.endswith(".csv"):
                continue
            notes, scores = read(folder, experiment, contestant, name.removesuffix(".csv"))
            with open(os.path.join(to, name), "w", encoding="utf-8") as file:
                file.write(json.dumps(notes) + "\n")
                scores.to_csv(file, float_format="%.7g")


def restore(folder):
    """Copies the tree's cells to where the cache has none."""
    for at, _, names in os.walk(KEPT):
        for name in names:
            to = os.path.join(folder, "cells", os.path.relpath(at, KEPT), name)
            if not os.path.exists(to):
                os.makedirs(os.path.dirname(to), exist_ok=True)
                shutil.copy(os.path.join(at, name), to)


def contestants(folder, experiment):
    """The names with a cell of the experiment."""
    try:
        return sorted(os.listdir(os.path.join(folder, "cells", experiment)))
    except FileNotFoundError:
        return []
