"""The logistic regressions: one-hot categories and scaled numbers, and the texts of complaints."""

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, normalize

import tuning

# A level seen less often shares one column with the unseen ones.
LEAST_ROWS = 10


def logistic_peer(train, test, labels, pairs):
    return fitted({"one-hot": one_hot(train, test)}, labels, pairs, [0.01, 0.03, 0.1, 0.3])


def one_hot(train, test):
    """Numbers by their rank as a normal score, a missing bit, and one column for each level."""
    (numbers, levels), (other, other_levels) = train, test
    scale = QuantileTransformer(n_quantiles=200, output_distribution="normal",
                                random_state=tuning.SEED)
    encode = OneHotEncoder(min_frequency=LEAST_ROWS, handle_unknown="infrequent_if_exist")
    middle = numbers.median()
    scale.fit(numbers.fillna(middle))
    encode.fit(levels.astype(str))
    widen = lambda x, c: sparse.hstack([
        np.clip(scale.transform(x.fillna(middle)), -3, 3), x.isna().to_numpy(dtype=float),
        encode.transform(c.astype(str))]).tocsr()
    return widen(numbers, levels), widen(other, other_levels)


def fitted(views, labels, pairs, strengths):
    """Scores of the test rows by the best view and C; each view is (training rows, test rows)."""

    def model(setting, rows, y):
        kind = LogisticRegression(C=setting["C"], solver="lbfgs", max_iter=500)
        return kind.fit(rows, y)

    def judge(setting, fit, valid):
        rows = views[setting["view"]][0]
        chosen = model(setting, rows[fit], labels[fit])
        return chosen.predict_proba(rows[valid])[:, 1], None

    settings = [{"view": view, "C": c} for view in views for c in strengths]
    setting, _ = tuning.choose(settings, pairs, labels, judge)
    rows, unseen = views[setting["view"]]
    return model(setting, rows, labels).predict_proba(unseen)[:, 1], setting


def beside(views, columns):
    """The views, and each of them with the one-hot columns beside."""
    both = {name + " + columns": tuple(sparse.hstack([text, other]).tocsr()
                                       for text, other in zip(view, columns))
            for name, view in views.items()}
    return views | both


def words_peer(train, test, labels, pairs, texts, columns):
    """TF-IDF of words and pairs of words, and of letters besides."""
    word = {"ngram_range": (1, 2), "min_df": 2, "sublinear_tf": True}
    letter = {"analyzer": "char", "ngram_range": (3, 5), "min_df": 3, "sublinear_tf": True}

    def view(**how):
        count = TfidfVectorizer(strip_accents="unicode", dtype=np.float64, **how)
        return count.fit_transform(texts[train]).tocsr(), count.transform(texts[test]).tocsr()

    words, letters = view(**word), view(**letter)
    joined = tuple(sparse.hstack(pair).tocsr() for pair in zip(words, letters))
    views = {"words": words, "words + letters": joined}
    return fitted(beside(views, columns), labels, pairs, [0.3, 1.0, 3.0, 10.0, 30.0])


def frozen_peer(train, test, labels, pairs, vectors, columns):
    """Mean vectors of the frozen encoder, of unit length as sentence-transformers gives them."""
    unit = {name: sparse.csr_matrix(normalize(rows)) for name, rows in vectors.items()}
    views = {name: (rows[train], rows[test]) for name, rows in unit.items()}
    return fitted(beside(views, columns), labels, pairs, [1.0, 3.0, 10.0, 30.0, 100.0])
