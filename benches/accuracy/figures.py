"""Figures of scores against the truth, and of one contestant's scores against another's.

Standard errors of areas are DeLong's (DeLong, DeLong and Clarke-Pearson 1988) by mid-ranks (Sun
and Xu 2014). Scores are probabilities, labels booleans.
"""

import numpy as np
from scipy.stats import rankdata, t

import tuning

BINS = 10
NORMAL_95 = 1.959964


def auc(scores, labels):
    return placements(scores, labels)[0].mean()


def placements(scores, labels):
    """For each positive row, the share of negative rows below it; for each negative row, of positive
    rows above it; a tie counts one half."""
    positive, negative = scores[labels], scores[~labels]
    joint = rankdata(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    return ((joint[:m] - rankdata(positive)) / n, 1 - (joint[m:] - rankdata(negative)) / m)


def auc_gain(a, b, labels):
    """AUC of a less that of b on the same rows, and the difference's variance."""
    (pa, na), (pb, nb) = placements(a, labels), placements(b, labels)
    up, down = pa - pb, na - nb
    return up.mean(), up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down)


def losses(scores, labels):
    """Log-loss of each row."""
    p = tuning.clip(scores)
    return -np.where(labels, np.log(p), np.log(1 - p))


def loss_gain(a, b, labels):
    """Mean log-loss of a less that of b, and the difference's variance."""
    gain = losses(a, labels) - losses(b, labels)
    return gain.mean(), gain.var(ddof=1) / len(gain)


def calibration_error(scores, labels):
    """Expected calibration error: mean distance of score and outcome over ten bins of equal count."""
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, BINS)
    return sum(len(b) * abs(scores[b].mean() - labels[b].mean()) for b in bins) / len(scores)


def interval(design, per_round, pairs):
    """Mean difference over cells and its 95% interval, from (difference, variance) of each cell.

    Folds of a round have test rows of their own, so their variances add up; a further round tests the
    same rows again and is not counted as further evidence. Draws of few rows: Student's interval
    over the draws, when there are many and the training rows hardly overlap (`per_round` 0).
    """
    gains, variances = np.array(pairs).T
    mean = gains.mean()
    if design == "spread":
        half = t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    else:
        half = NORMAL_95 * np.sqrt(variances.mean() / per_round)
    return mean, mean - half, mean + half
