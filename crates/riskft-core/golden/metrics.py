"""Writes golden/metrics.json: figures of scikit-learn, SciPy and plain definitions.

    python golden/metrics.py > golden/metrics.json

Needs numpy, scipy, scikit-learn. The DeLong variance is computed from its definition, pair by
pair, and so checks the mid-rank algorithm independently.
"""

import json

import numpy as np
from scipy.optimize import minimize
from scipy.stats import ks_2samp
from sklearn import metrics


def placements(scores, labels):
    positive, negative = scores[labels], scores[~labels]
    above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return above.mean(1), above.mean(0)


def covariance(a, b, labels):
    (pa, na), (pb, nb) = placements(a, labels), placements(b, labels)
    return np.cov(pa, pb)[0, 1] / len(pa) + np.cov(na, nb)[0, 1] / len(na)


def ece(scores, labels):
    order = np.argsort(scores, kind="stable")
    s, y = scores[order], labels[order]
    n, start, total = len(s), 0, 0.0
    for k in range(1, 16):
        end = max(n * k // 15, start)
        while start < end < n and s[end] == s[end - 1]:
            end += 1
        if end > start:
            total += (end - start) * abs(s[start:end].mean() - y[start:end].mean())
        start = end
    return total / n


def platt(logits, labels):
    p, n = labels.sum(), (~labels).sum()
    t = np.where(labels, (p + 1) / (p + 2), 1 / (n + 2))

    def loss(w):
        z = w[0] * logits + w[1]
        return (np.logaddexp(0, z) - t * z).sum()

    return minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x.tolist()


def case(name, scores, other, labels):
    difference = metrics.roc_auc_score(labels, scores) - metrics.roc_auc_score(labels, other)
    variance = (
        covariance(scores, scores, labels)
        + covariance(other, other, labels)
        - 2 * covariance(scores, other, labels)
    )
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    logits = np.log(scores / (1 - scores))
    return {
        "name": name,
        "scores": scores.tolist(),
        "other": other.tolist(),
        "labels": labels.tolist(),
        "auc": metrics.roc_auc_score(labels, scores),
        "auc_error": covariance(scores, scores, labels) ** 0.5,
        "difference": difference,
        "difference_error": variance**0.5,
        "average_precision": metrics.average_precision_score(labels, scores),
        "ks": ks_2samp(scores[labels], scores[~labels]).statistic,
        "f1": metrics.f1_score(labels, scores >= 0.4),
        "best_f1": best,
        "brier": metrics.brier_score_loss(labels, scores),
        "log_loss": metrics.log_loss(labels, scores),
        "ece": ece(scores, labels),
        "platt": platt(logits, labels),
    }


def main():
    random = np.random.default_rng(7)
    cases = []
    for name, rows, digits in [("distinct", 120, 6), ("ties", 120, 1), ("rare", 90, 2)]:
        rate = 0.06 if name == "rare" else 0.35
        labels = random.random(rows) < rate
        noise = random.normal(size=(2, rows))
        scores, other = (
            np.clip(np.round(1 / (1 + np.exp(0.8 - 1.2 * labels - z)), digits), 0.01, 0.99)
            for z in (noise[0], 0.6 * noise[0] + 0.8 * noise[1])
        )
        cases.append(case(name, scores, other, labels))
    print(json.dumps(cases, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
