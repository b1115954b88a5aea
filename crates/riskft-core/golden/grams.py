"""Writes golden/grams.json.gz: logits of scikit-learn's logistic regression on hashed n-grams.

    python golden/grams.py

Needs scikit-learn 1.9, scipy, numpy. The n-grams are those of scikit-learn's analyzers over texts
that are normalised as grams/mod.rs says; hashing is written out here once more. For each case:
`view`, `columns`, `c`, `known` (buckets that two training rows have), `bias`, and `logits` of all
rows. Rows are those of tests/data/cfpb_complaints.csv.gz, then TEXTS in every column; the first
TRAIN rows train.
"""

import csv
import gzip
import json
import math
import unicodedata
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).resolve().parents[3]
OUT = Path(__file__).resolve().parent / "grams.json.gz"
ROWS, TRAIN = 240, 160
MASK = 2**64 - 1
OFFSET, PRIME = 0xCBF29CE484222325, 0x100000001B3
TEXTS = ["", " \t\n", "a", "É e\u0301 Éclair ÀÉÎ", "loan\u00a0LOAN loan, loan!", "x" * 300, "10% of $1,400.00",
         "Straße İstanbul ΣΊΣΥΦΟΣ Зачем", "a\u0000b\u0007c", "don't re-pay_it"]
CASES = [
    {"view": {"words": 2, "characters": [3, 5], "bits": 18, "sublinear": True, "norm": "text"},
     "columns": ["narrative"], "c": 10.0},
    {"view": {"words": 2, "characters": [3, 5], "bits": 14, "sublinear": True, "norm": "kind"},
     "columns": ["narrative", "company"], "c": 3.0},
    {"view": {"words": 1, "characters": None, "bits": 16, "sublinear": False, "norm": "text"},
     "columns": ["narrative"], "c": 1.0},
    {"view": {"words": 0, "characters": [1, 4], "bits": 10, "sublinear": False, "norm": "kind"},
     "columns": ["company", "sub_product", "narrative"], "c": 0.3},
]


def step(state, symbol):
    return ((state ^ symbol) * PRIME) & MASK


def finish(h):
    h = ((h ^ (h >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    h = ((h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return h ^ (h >> 33)


def run(start, symbols, bits):
    for symbol in symbols:
        start = step(start, symbol)
    return finish(start) >> (64 - bits)


def normalise(text):
    kept = [" " if c.isspace() else c for c in text
            if c.isspace() or not unicodedata.category(c).startswith("C")]
    plain = unicodedata.normalize("NFD", "".join(kept))
    plain = "".join(c.lower() for c in plain if unicodedata.category(c) != "Mn")
    return f" {' '.join(plain.split())} " if plain.split() else ""


def analyse(view, column, text):
    """Buckets of the words and of the characters of a text."""
    bits, text = view["bits"], normalise(text)
    kinds = []
    if view["words"]:
        start = finish(OFFSET ^ (column << 8 | 1))
        analyzer = CountVectorizer(lowercase=False, token_pattern=r"[^\W_]+",
                                   ngram_range=(1, view["words"])).build_analyzer()
        symbol = lambda word: finish(run_state(word))
        kinds.append([run(start, map(symbol, gram.split(" ")), bits) for gram in analyzer(text)])
    if view["characters"]:
        start = finish(OFFSET ^ (column << 8 | 2))
        analyzer = CountVectorizer(lowercase=False, analyzer="char",
                                   ngram_range=tuple(view["characters"])).build_analyzer()
        kinds.append([run(start, map(ord, gram), bits) for gram in analyzer(text)])
    return kinds if view["norm"] == "kind" else [sum(kinds, [])]


def run_state(word):
    state = OFFSET
    for c in word:
        state = step(state, ord(c))
    return state


def matrices(view, columns):
    """One matrix of counts for each part of a row that has a length of its own."""
    parts = []
    for number, texts in enumerate(columns):
        for kind in zip(*[analyse(view, number, text) for text in texts]):
            counter = CountVectorizer(analyzer=lambda buckets: buckets,
                                      vocabulary=range(2 ** view["bits"]))
            parts.append(counter.transform(kind))
    return parts


def case(view, columns, c, rows, labels):
    texts = [[row[name] for row in rows] + TEXTS for name in columns]
    parts = matrices(view, texts)
    union = sum(parts)
    frequency = np.asarray((union[:TRAIN] > 0).sum(axis=0)).ravel()
    known = np.flatnonzero(frequency >= 2)
    weigher = TfidfTransformer(sublinear_tf=view["sublinear"])
    weigher.fit(union[:TRAIN, known])
    x = sparse.csr_matrix(sum(weigher.transform(part[:, known]) for part in parts))
    weights = [1.0 + 0.5 * (row % 3) for row in range(TRAIN)]
    model = LogisticRegression(C=c, tol=1e-12, max_iter=100_000, solver="newton-cg")
    model.fit(x[:TRAIN], labels[:TRAIN], sample_weight=weights)
    logits = model.decision_function(x)
    # Of the known buckets and their frequencies, a figure that depends on each.
    idf = math.fsum(float(weigher.idf_[k]) * (bucket % 97) for k, bucket in enumerate(known))
    return {"view": view, "columns": columns, "c": c, "known": len(known), "idf": idf,
            "bias": float(model.intercept_[0]), "logits": [round(float(v), 10) for v in logits]}


def main():
    with gzip.open(ROOT / "tests/data/cfpb_complaints.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))[:ROWS]
    labels = np.array([row["fee_issue"] == "t" for row in rows])
    cases = [case(**each, rows=rows, labels=labels) for each in CASES]
    golden = {"train": TRAIN, "rows": ROWS, "texts": TEXTS, "cases": cases}
    OUT.write_bytes(gzip.compress(json.dumps(golden).encode(), mtime=0))
    for each in cases:
        print(each["view"], each["known"], each["bias"], np.std(each["logits"]))


main()
