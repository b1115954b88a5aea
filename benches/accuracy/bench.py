"""The accuracy bench beside riskft: `bench.py STEP FOLDER [EXPERIMENT...]`.

    check      compares the bench's own arithmetic with the core's golden numbers
    parts      writes which rows train and test in each cell, and the fetched tables as CSV
    peers      computes the cells of the peers that are not there yet
    summary    prints the figures of all cells as Markdown
    keep       copies the cells of the experiments named into the tree
    restore    copies the tree's cells to where FOLDER has none

FOLDER holds parts/, tables/, cells/ and the fetched archives. benches/accuracy/run calls them all.
"""

import os
import sys
import time

import numpy as np

import cells
import check
import encoder
import features
import linear
import summary
import tables
import trees
import tuning

TABLE_PEERS = {
    "logistic": linear.logistic_peer,
    "lightgbm": trees.lightgbm_peer,
    "xgboost": trees.xgboost_peer,
    "catboost": trees.catboost_peer,
}
TEXTS = {"complaints": "narrative"}
# Contestants that are the mean of two peers' logits.
TREES_AVERAGED = {"xgboost+catboost": ("xgboost", "catboost")}
TEXTS_AVERAGED = {"words+frozen": ("words", "frozen")}


def write_parts(folder, experiment):
    rows = tables.table(experiment["table"], folder)
    for kind, name, frame in [
        ("parts", experiment["name"], tables.parts(experiment, rows)),
        ("tables", experiment["table"], rows),
    ]:
        to = os.path.join(folder, kind, f"{name}.csv")
        os.makedirs(os.path.dirname(to), exist_ok=True)
        frame.to_csv(to + ".new", index=False)
        os.replace(to + ".new", to)


class Cell:
    """The rows of one cell, as the peers take them."""

    def __init__(self, experiment, number, rows, parts, columns):
        index = rows.set_index(tables.KEYS[experiment["table"]]).index
        parts = parts[parts["cell"] == number]
        at = lambda part: index.get_indexer(parts.loc[parts["part"] == part, "key"])
        self.number, self.train, self.test = number, at("train"), at("test")
        self.keys = index[self.test]
        cut = lambda at: tuple(frame.iloc[at].reset_index(drop=True) for frame in columns)
        self.columns = cut(self.train), cut(self.test)
        self.labels = tables.truth(rows, experiment["target"])[self.train]
        self.pairs = tuning.inner(self.labels)


def peers(folder, experiment):
    rows = tables.table(experiment["table"], folder)
    parts = tables.parts(experiment, rows)
    columns = features.features(experiment, rows)
    texts = rows.get(TEXTS.get(experiment["table"], ""))
    for number in range(parts["cell"].max() + 1):
        cell = Cell(experiment, number, rows, parts, columns)
        for name, peer in TABLE_PEERS.items():
            compute(folder, experiment, name, cell,
                    lambda: peer(*cell.columns, cell.labels, cell.pairs))
        averages(folder, experiment, cell, TREES_AVERAGED)
        if texts is not None:
            text_peers(folder, experiment, cell, texts.to_numpy())


def text_peers(folder, experiment, cell, texts):
    vectors = encoder.vectors(folder, texts)
    other = lambda: linear.one_hot(*cell.columns)
    rows = cell.train, cell.test, cell.labels, cell.pairs
    compute(folder, experiment, "words", cell,
            lambda: linear.words_peer(*rows, texts, other()))
    compute(folder, experiment, "frozen", cell,
            lambda: linear.frozen_peer(*rows, vectors, other()))
    averages(folder, experiment, cell, TEXTS_AVERAGED)


def averages(folder, experiment, cell, pairs):
    for name, pair in pairs.items():
        compute(folder, experiment, name, cell, lambda: average(folder, experiment, cell, pair))


def average(folder, experiment, cell, names):
    halves = [cells.read(folder, experiment["name"], name, cell.number)[1][cell.keys]
              for name in names]
    mean = np.mean([tuning.logit(half) for half in halves], axis=0)
    return 1 / (1 + np.exp(-mean)), {}


def compute(folder, experiment, name, cell, scores):
    if not cells.wanted(folder, experiment["name"], name, cell.number):
        return
    wall, cpu = time.time(), time.process_time()
    found, chosen = scores()
    notes = {"seconds": round(time.time() - wall, 1),
             "cpu_seconds": round(time.process_time() - cpu, 1), "chosen": chosen}
    cells.write(folder, experiment["name"], name, cell.number, cell.keys, found, notes)
    print(f"riskft: {experiment['name']} {cell.number} {name}: {notes['seconds']} s, {chosen}",
          file=sys.stderr, flush=True)


def main(step, folder, *names):
    steps = {"parts": write_parts, "peers": peers,
             "keep": lambda folder, experiment: cells.keep(folder, experiment["name"])}
    if step == "check":
        check.check()
    elif step == "restore":
        cells.restore(folder)
    elif step == "summary":
        print(summary.text(folder), end="")
    else:
        for experiment in tables.experiments(names):
            steps[step](folder, experiment)


if __name__ == "__main__":
    main(*sys.argv[1:])
