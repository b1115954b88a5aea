"""A cell is one contestant in one fold or draw of an experiment: a CSV file of the test rows' keys
and scores under a line of JSON with what it took and what was chosen. A file that is there is never
computed again, unless RISKFT_BENCH_AGAIN is set; riskft's side writes the same files.
"""

import json
import os

import pandas as pd


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


def contestants(folder, experiment):
    """The names with a cell of the experiment."""
    try:
        return sorted(os.listdir(os.path.join(folder, "cells", experiment)))
    except FileNotFoundError:
        return []
