"""How the peers are tuned: a handful of settings, judged inside the training rows alone.

From 5,000 rows up one fifth is set aside once, below that five folds are. The setting with the least
log-loss there is fitted again on all training rows, with the number of trees that early stopping
found. In the experiment that follows time, too, the fifth is drawn at random: with the newest fifth in
its place LightGBM's AUC was lower by 0.008, CatBoost's by 0.004, XGBoost's the same.
"""

import numpy as np
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

FEW_ROWS = 5000
FOLDS = 5
SEED = 1


def inner(labels):
    """Pairs of rows to fit and to judge on."""
    split = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    pairs = list(split.split(np.zeros(len(labels)), labels))
    return pairs if len(labels) < FEW_ROWS else pairs[:1]


def choose(settings, pairs, labels, judge):
    """The best of the settings, with what `judge` found for each pair.

    `judge(setting, fit, valid)` gives probabilities of the valid rows and anything else.
    """
    best = None
    for setting in settings:
        judged = [judge(setting, fit, valid) for fit, valid in pairs]
        loss = np.mean([log_loss(labels[valid], clip(scores))
                        for (_, valid), (scores, _) in zip(pairs, judged)])
        if best is None or loss < best[0]:
            best = loss, setting, [found for _, found in judged]
    return best[1], best[2]


def clip(scores):
    return np.clip(np.asarray(scores, dtype=float), 1e-7, 1 - 1e-7)


def logit(scores):
    scores = clip(scores)
    return np.log(scores / (1 - scores))
