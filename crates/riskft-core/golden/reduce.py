"""Writes golden/reduce.json: principal components of scikit-learn's, of 90 rows of 6 columns.

    python golden/reduce.py > golden/reduce.json

Needs numpy, scikit-learn. Missing cells are null; the columns are not in the order of their names.
Signs are fixed by the rule of riskft: the largest loading is positive.
"""

import json
import sys

import numpy as np
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAMES = ["term", "amount", "rate", "größe %", "balance", "Age"]


def main():
    random = np.random.default_rng(90)
    hidden = random.normal(size=(90, 2))
    noise = random.normal(size=(90, 6))
    weights = random.normal(size=(2, 6))
    data = hidden @ weights + 0.5 * noise
    data = data * [12, 5e4, 0.01, 1, 1e9, 10] + [36, 2e5, 0.13, 0, 1e12, 40]
    data[random.random(size=data.shape) < [0, 0.1, 0.3, 0, 0.02, 0]] = np.nan

    pipe = make_pipeline(SimpleImputer(), StandardScaler(), PCA(svd_solver="full"))
    projected = pipe.fit_transform(data)
    scaler, pca = pipe[1], pipe[2]
    order = sorted(range(6), key=lambda column: NAMES[column].encode())
    components = pca.components_[:, order]
    signs = np.sign(components[np.arange(6), np.abs(components).argmax(1)])
    json.dump({
        "names": NAMES,
        "data": [[None if np.isnan(v) else v for v in row] for row in data.tolist()],
        "columns": [NAMES[column] for column in order],
        "means": scaler.mean_[order].tolist(),
        "scales": scaler.scale_[order].tolist(),
        "variances": pca.explained_variance_.tolist(),
        "ratios": pca.explained_variance_ratio_.tolist(),
        "components": (components * signs[:, None]).tolist(),
        "projected": (projected * signs).tolist(),
    }, sys.stdout, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
