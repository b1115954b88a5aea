"""Writes golden/trees.safetensors.gz: models of LightGBM as text, rows, and its raw scores.

    python golden/trees.py

Needs lightgbm 4.7, numpy, pandas, safetensors. For each case `CASE.model` (U8, the text),
`CASE.rows` (F64 [rows, features]) and `CASE.scores` (F64 [rows]), from predict(raw_score=True).
`loans` reads tests/data/sba_loans.csv.gz; the others are made up so that each rule of a split is
met: every missing type, NaN where none was at training, values about zero, thousands of categories,
categories never seen, trees of one leaf.
"""

import gzip
from pathlib import Path

import lightgbm
import numpy as np
import pandas
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parents[3]
OUT = Path(__file__).resolve().parent / "trees.safetensors.gz"
ROWS = 2000
BASE = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True, "seed": 1}
ODD = [
    np.nan, -np.nan, 0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, float(np.float32(1e-35)),
    -float(np.float32(1e-35)), 2e-35, -2e-35, -0.5, -1.0, -7.0, 0.999, 1.9, 31.0, 32.5, 63.9, 64.0,
    1e9, 2147483647.0, 2147483648.0, 4294967296.0, 1e300, -1e300, np.inf, -np.inf,
]


def fit(x, y, trees, categories=(), **options):
    data = lightgbm.Dataset(x, y, categorical_feature=list(categories))
    return lightgbm.train(BASE | options, data, trees).model_to_string()


def loans():
    table = pandas.read_csv(ROOT / "tests/data/sba_loans.csv.gz", dtype={"zip": str, "naics": str})
    labels = ["state", "bank", "bank_state", "urban_rural", "revolving", "low_doc", "new_business"]
    columns = [table[name].astype("category").cat.codes.astype(float) for name in labels]
    columns.append(table["naics"].str[:2].astype("category").cat.codes.astype(float))
    categories = range(len(columns))
    numbers = ["fiscal_year", "employees", "jobs_created", "jobs_retained", "franchise_code",
               "disbursed", "approved_gross", "sba_guaranteed"]
    columns += [table[name].astype(float) for name in numbers]
    columns.append(table["sba_guaranteed"] / table["approved_gross"])
    x = np.column_stack(columns)
    x[:, :8][x[:, :8] < 0] = np.nan
    # Some cells are missing, as they are elsewhere.
    x[np.random.default_rng(1).random(x.shape) < 0.03] = np.nan
    y = table["defaulted"].astype(int).to_numpy()
    text = fit(x[ROWS:], y[ROWS:], 80, categories, num_leaves=31, learning_rate=0.1)
    return text, x[:ROWS]


def made(seed, train, features=6):
    """Rows that hold zeros and, unless `train`, odd values."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(ROWS, features)).round(2)
    x[random.random(x.shape) < 0.2] = 0.0
    if not train:
        odd = random.random(x.shape) < 0.15
        x[odd] = random.choice(ODD, odd.sum())
    return x


def outcome(x, seed):
    random = np.random.default_rng(seed)
    known = np.nan_to_num(x)
    logit = known[:, 0] - known[:, 1] * known[:, 2] + (x[:, 3] == 0) + random.normal(size=len(x))
    return (logit > 0.5).astype(int)


def missing(kind):
    x = made(2, True)
    if kind != "none":
        x[np.random.default_rng(3).random(x.shape) < 0.2] = np.nan
    options = {"zero_as_missing": True} if kind == "zero" else {}
    return fit(x, outcome(x, 4), 30, num_leaves=15, **options), made(5, False)


def categories():
    random = np.random.default_rng(6)
    x = np.column_stack([random.integers(0, 3000, 20_000), random.integers(0, 40, 20_000),
                         random.integers(0, 3, 20_000), random.normal(size=20_000).round(2)])
    y = (np.sin(x[:, 0]) + (x[:, 1] % 3 == 0) + x[:, 3] + random.normal(size=len(x)) > 0.7)
    text = fit(x, y.astype(int), 30, (0, 1, 2), num_leaves=15, min_data_per_group=5, cat_smooth=1)
    rows = x[:ROWS].copy()
    odd = random.random(rows.shape) < 0.15
    rows[odd] = random.choice(ODD + [2999.0, 3000.0, 40.0, 5000.0], odd.sum())
    return text, rows


def single():
    x = made(7, True)
    text = fit(x, outcome(x, 8), 20, num_leaves=4, min_gain_to_split=40.0, learning_rate=0.3)
    none = fit(x, outcome(x, 8), 2, min_data_in_leaf=ROWS)
    assert "num_leaves=1\n" in none
    return (text, made(9, False)), (none, made(10, False)[:50])


def edges():
    """Thresholds about zero with each decision type, by hand: training never gives all of them."""
    sections = []
    for kind in range(12):
        for threshold in ["-2", "-1e-35", "-1e-36", "-0", "0", "1e-36", "1.0000000180025095e-35", "1"]:
            category = kind % 2 == 1
            k = len(sections)
            lines = [f"Tree={k}", "num_leaves=2", f"num_cat={int(category)}", "split_feature=0",
                     "split_gain=1", f"threshold={'0' if category else threshold}",
                     f"decision_type={kind}", "left_child=-1", "right_child=-2",
                     f"leaf_value=0 {2.0 ** (k % 50)!r}", "leaf_weight=1 1", "leaf_count=1 1",
                     "internal_value=0", "internal_weight=0", "internal_count=2"]
            if category:
                lines += ["cat_boundaries=0 2", "cat_threshold=2147483649 3"]
            sections.append("\n".join(lines + ["is_linear=0", "shrinkage=1"]) + "\n\n\n")
    head = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0",
            "max_feature_idx=0", "objective=binary sigmoid:1", "feature_names=x",
            "feature_infos=none", "tree_sizes=" + " ".join(str(len(s)) for s in sections)]
    tail = "end of trees\n\nfeature_importances:\n\nparameters:\n\nend of parameters\n"
    return "\n".join(head) + "\n\n" + "".join(sections) + tail, np.array(ODD)[:, None]


def main():
    several, one = single()
    cases = {"loans": loans(), "missing_none": missing("none"), "missing_zero": missing("zero"),
             "missing_nan": missing("nan"), "categories": categories(), "single": several,
             "none": one, "edges": edges()}
    tensors = {}
    for name, (text, rows) in cases.items():
        # The parameters after the trees name paths and say nothing to a reader.
        text = text[: text.index("end of trees")] + "end of trees\n"
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        scores = lightgbm.Booster(model_str=text).predict(rows, raw_score=True, num_threads=1)
        tensors[f"{name}.model"] = np.frombuffer(text.encode(), dtype=np.uint8)
        tensors[f"{name}.rows"] = rows
        tensors[f"{name}.scores"] = scores
        print(name, len(text), rows.shape, scores.min(), scores.max())
    OUT.write_bytes(gzip.compress(save(tensors), 9, mtime=0))
    print(OUT.stat().st_size, "bytes")


main()
