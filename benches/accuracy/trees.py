"""The boosted trees: LightGBM, XGBoost and CatBoost, each with its own categories."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost

import tuning

MOST_TREES = 4000
PATIENCE = 100
THREADS = 1

# By the number of training rows: few of them want smaller trees.
LIGHTGBM = {
    "many": [
        {"num_leaves": 31, "min_data_in_leaf": 50, "feature_fraction": 0.3, "cat_smooth": 50},
        {"num_leaves": 15, "min_data_in_leaf": 50, "feature_fraction": 0.3, "cat_smooth": 50},
        {"num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 0.4, "cat_smooth": 50,
         "max_cat_threshold": 8, "extra_trees": True},
        {"num_leaves": 7, "min_data_in_leaf": 20, "feature_fraction": 0.5, "cat_smooth": 50},
    ],
    "few": [
        {"num_leaves": 4, "min_data_in_leaf": 20, "feature_fraction": 0.3, "cat_smooth": 10},
        {"num_leaves": 7, "min_data_in_leaf": 20, "feature_fraction": 0.5, "cat_smooth": 10},
        {"num_leaves": 7, "min_data_in_leaf": 10, "feature_fraction": 0.3, "cat_smooth": 20,
         "min_data_per_group": 20},
    ],
}
XGBOOST = {
    "many": [
        {"max_depth": 4, "min_child_weight": 5, "colsample_bytree": 0.5, "reg_lambda": 5},
        {"max_depth": 6, "min_child_weight": 5, "colsample_bytree": 0.5, "reg_lambda": 5},
        {"max_depth": 6, "min_child_weight": 10, "colsample_bytree": 0.3, "reg_lambda": 10},
        {"max_depth": 8, "min_child_weight": 10, "colsample_bytree": 0.3, "reg_lambda": 10},
    ],
    "few": [
        {"max_depth": 2, "min_child_weight": 5, "colsample_bytree": 0.3, "reg_lambda": 5},
        {"max_depth": 3, "min_child_weight": 5, "colsample_bytree": 0.5, "reg_lambda": 5},
        {"max_depth": 4, "min_child_weight": 5, "colsample_bytree": 0.3, "reg_lambda": 10},
    ],
}
CATBOOST = {
    "many": [{"depth": 6, "l2_leaf_reg": 3}, {"depth": 4, "l2_leaf_reg": 10}],
    "few": [{"depth": 6, "l2_leaf_reg": 3}, {"depth": 4, "l2_leaf_reg": 10}],
}


def rate(rows):
    """The learning rate: slower steps pay on few rows, and cost little there."""
    return 0.03 if rows >= tuning.FEW_ROWS else 0.02


def lightgbm_peer(train, test, labels, pairs):
    return boosted(LIGHTGBM, fit_lightgbm, coded(train, test), labels, pairs)


def xgboost_peer(train, test, labels, pairs):
    return boosted(XGBOOST, fit_xgboost, coded(train, test), labels, pairs)


def catboost_peer(train, test, labels, pairs):
    return boosted(CATBOOST, fit_catboost, (plain(train), plain(test)), labels, pairs)


def boosted(settings, fit, columns, labels, pairs):
    """Scores of the test rows, and what was chosen.

    `fit(setting, x, y, stop, rounds)` gives a model's scoring function and its number of trees:
    early-stopped on the rows `stop`, or of `rounds` trees.
    """
    x, unseen = columns

    def judge(setting, fitted, valid):
        stop = x.iloc[valid], labels[valid]
        score, rounds = fit(setting, x.iloc[fitted], labels[fitted], stop, MOST_TREES)
        return score(x.iloc[valid]), rounds

    size = "many" if len(x) >= tuning.FEW_ROWS else "few"
    setting, rounds = tuning.choose(settings[size], pairs, labels, judge)
    rounds = max(1, round(float(np.mean(rounds))))
    score, _ = fit(setting, x, labels, None, rounds)
    return score(unseen), {**setting, "rounds": rounds}


def coded(train, test):
    """Categories as codes of the levels in the training rows; missing and unseen ones are missing."""
    frames = [numbers.copy() for numbers, _ in (train, test)]
    for name in train[1].columns:
        levels = sorted(set(train[1][name]) - {""})
        for frame, (_, categories) in zip(frames, (train, test)):
            column = categories[name]
            known = column.where(column.isin(levels), None)
            frame[name] = pd.Categorical(known, categories=levels)
    return frames


def plain(columns):
    """Categories as strings, as CatBoost takes them."""
    numbers, categories = columns
    return pd.concat([numbers, categories.astype(object)], axis=1)


def fit_lightgbm(setting, x, y, stop, rounds):
    parameters = {
        "objective": "binary", "learning_rate": rate(len(x)), "num_threads": THREADS,
        "lambda_l2": 5, "bagging_fraction": 0.8, "bagging_freq": 1, "max_cat_threshold": 64,
        "cat_l2": 10, "seed": tuning.SEED, "verbosity": -1, **setting,
    }
    data = lightgbm.Dataset(x, y)
    watched = [lightgbm.Dataset(*stop, reference=data)] if stop else None
    calls = [lightgbm.early_stopping(PATIENCE, verbose=False)] if stop else None
    model = lightgbm.train(parameters, data, rounds, valid_sets=watched, callbacks=calls)
    return model.predict, model.best_iteration if stop else rounds


def fit_xgboost(setting, x, y, stop, rounds):
    parameters = setting | {
        "objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist",
        "learning_rate": rate(len(x)), "nthread": THREADS, "subsample": 0.8,
        "max_cat_to_onehot": 4, "max_cat_threshold": 64, "seed": tuning.SEED,
    }
    matrix = lambda rows, labels=None: xgboost.DMatrix(rows, labels, enable_categorical=True)
    model = xgboost.train(
        parameters, matrix(x, y), rounds, evals=[(matrix(*stop), "stop")] if stop else (),
        early_stopping_rounds=PATIENCE if stop else None, verbose_eval=False,
    )
    best = model.best_iteration + 1 if stop else rounds
    return lambda rows: model.predict(matrix(rows), iteration_range=(0, best)), best


def fit_catboost(setting, x, y, stop, rounds):
    names = [name for name in x.columns if x[name].dtype == object]
    pool = lambda rows, labels=None: catboost.Pool(rows, labels, cat_features=names)
    model = catboost.CatBoostClassifier(
        **setting, iterations=min(rounds, 2000), learning_rate=0.05, loss_function="Logloss",
        random_seed=tuning.SEED, thread_count=THREADS, allow_writing_files=False, verbose=False,
    )
    model.fit(pool(x, y), eval_set=pool(*stop) if stop else None,
              early_stopping_rounds=50 if stop else None, use_best_model=bool(stop))
    best = model.get_best_iteration() + 1 if stop else rounds
    return lambda rows: model.predict_proba(pool(rows))[:, 1], best
