"""Shapley values of one small version by the Python package shap (Lundberg & Lee 2017).

    DATABASE_URL=... python3 tests/golden/by_shap.py

trains nothing: it expects table `golden`, and model `golden` on it, as tests/tests/shap.rs makes them
(`RISKFT_GOLDEN=make cargo test -p riskft-tests --test shap` leaves the model's bytes in shap.model).
shap asks for the scores of mixed rows, and PostgreSQL answers with risk_score. The background is the
fitted rows: the oldest 64 of 80, as the split by time has it. Writes shap.json.

Needs shap and psycopg.
"""

import json
import os
import pathlib

import numpy
import psycopg
import shap

COLUMNS = ["amount", "income", "months", "grade", "place", "owner"]
FITTED = 64

connection = psycopg.connect(os.environ["DATABASE_URL"])
asked = 0


def rows(where):
    names = ", ".join(COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {names} FROM golden WHERE {where} ORDER BY day")
        return numpy.array(cursor.fetchall(), dtype=object)


def log_odds(mixed):
    """Log odds of rows, asked for in one statement."""
    global asked
    asked += len(mixed)
    objects = [dict(zip(COLUMNS, row)) for row in mixed.tolist()]
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT ln(risk / (1 - risk))
               FROM (SELECT place, risk_score_json('golden', row) AS risk
                     FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS r(row, place)) s
               ORDER BY place""",
            [json.dumps(objects)],
        )
        return numpy.array([value for (value,) in cursor.fetchall()])


class Background:
    """A masker that takes hidden columns from each background row in turn."""

    def __init__(self, data):
        self.data = data
        self.shape = (None, data.shape[1])

    def __call__(self, mask, row):
        mixed = self.data.copy()
        mixed[:, mask] = row[mask]
        return (mixed,)


background = rows(f"day <= date '2001-01-01' + {FITTED - 1}")
newest = rows(f"day > date '2001-01-01' + {FITTED - 1}")
assert len(background) == FITTED
exact = shap.explainers.Exact(log_odds, Background(background))(newest)
permuted = shap.explainers.Permutation(log_odds, Background(background), seed=7)(
    newest, max_evals=8 * (2 * len(COLUMNS) + 1)
)
golden = {
    "shap": shap.__version__,
    "columns": COLUMNS,
    "base": float(numpy.mean(log_odds(background))),
    "rows": newest.tolist(),
    "exact": exact.values.tolist(),
    "permutation": permuted.values.tolist(),
}
path = pathlib.Path(__file__).with_name("shap.json")
lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items())
path.write_text("{\n" + lines + "\n}\n")
print(f"{len(newest)} rows, {asked} scores asked for, shap {shap.__version__}: {path}")
