"""scikit-learn's side of the section reduce: principal components of rows in memory.

    python benches/reduce.py ROWS COLUMNS COMPONENTS DATA OUT

DATA holds ROWS * COLUMNS float32, row by row. Writes to OUT, as float64: the variances, then the
components, row by row. Prints one JSON object: seconds of the fit, of the projection of all rows, and
the peak memory in bytes. Needs numpy and scikit-learn.
"""

import json
import resource
import sys
import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler


def main():
    rows, columns, components = map(int, sys.argv[1:4])
    data = np.fromfile(sys.argv[4], dtype=np.float32).reshape(rows, columns).astype(np.float64)

    start = time.perf_counter()
    scaler = StandardScaler().fit(data)
    standard = scaler.transform(data)
    pca = PCA(n_components=components, svd_solver="covariance_eigh").fit(standard)
    fitted = time.perf_counter() - start

    start = time.perf_counter()
    pca.transform(scaler.transform(data))
    projected = time.perf_counter() - start

    np.concatenate([pca.explained_variance_, pca.components_.ravel()]).tofile(sys.argv[5])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"fit": fitted, "project": projected, "peak": peak}))


if __name__ == "__main__":
    main()
