"""Writes golden/scorecard.json: a scorecard of scikit-learn's on the loans.

    python golden/scorecard.py ../../tests/data/sba_loans.csv.gz > golden/scorecard.json

Needs numpy, pandas, scikit-learn. Weights of evidence by their definition, on bins that need no
merging; rows 0, 3, 6, ... are left out of the fit.
"""

import json
import sys

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

ROWS = 3000
COMMON = 5
NUMBERS = {"approved_gross": [25e3, 50e3, 100e3, 250e3, 500e3], "employees": [2, 4, 8, 16],
           "jobs_created": [1, 3, 8]}
LABELS = ["state", "urban_rural", "revolving"]


def woe(bins, labels, train):
    positive, negative = (labels & train).sum(), (~labels & train).sum()
    rate = positive / (positive + negative)
    out, information = np.zeros(len(bins)), 0.0
    for value in np.unique(bins):
        own = bins == value
        p, n = (own & labels & train).sum(), (own & ~labels & train).sum()
        weight = np.log((p + 20 * rate) / (n + 20 * (1 - rate))) - np.log(positive / negative)
        out[own] = weight
        information += (p / positive - n / negative) * weight
    return out, information


def main():
    table = pd.read_csv(sys.argv[1], dtype=str, nrows=ROWS, keep_default_na=False)
    labels = (table["defaulted"] == "True").to_numpy()
    train = np.arange(ROWS) % 3 != 0
    columns, information, values = [], [], {}
    for name, thresholds in NUMBERS.items():
        number = pd.to_numeric(table[name], errors="coerce").to_numpy()
        bins = np.where(np.isnan(number), 0, 1 + np.searchsorted(thresholds, number, side="right"))
        present = np.bincount(bins[train], minlength=len(thresholds) + 2)[1:]
        assert present.min() >= 0.05 * present.sum(), name
        weight, own = woe(bins, labels, train)
        columns.append(weight)
        information.append(own)
    for name in LABELS:
        counts = table[name][train].value_counts()
        # Code 0 = rare or unseen, 1 = missing, then labels by their bytes.
        values[name] = sorted(counts[(counts >= COMMON) & (counts.index != "")].index)
        code = {label: place + 2 for place, label in enumerate(values[name])} | {"": 1}
        bins = table[name].map(lambda label: code.get(label, 0)).to_numpy()
        rows = np.bincount(bins[train], minlength=2)
        # Codes of few rows are read as the rare one.
        bins = np.where(rows[bins] < 10, 0, bins)
        weight, own = woe(bins, labels, train)
        columns.append(weight)
        information.append(own)
    kept = [place for place, value in enumerate(information) if value >= 0.02]
    inputs = np.stack([columns[place] for place in kept], 1)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(inputs[train], labels[train])
    json.dump({
        "rows": ROWS,
        "numbers": [{"name": n, "thresholds": t} for n, t in NUMBERS.items()],
        "labels": [{"name": n, "values": values[n]} for n in LABELS],
        "information": information,
        "kept": kept,
        "weights": model.coef_[0].tolist(),
        "base": model.intercept_[0],
        "logits": model.decision_function(inputs[:ROWS:29]).tolist(),
        "every": 29,
    }, sys.stdout, indent=1)
    print()


main()
