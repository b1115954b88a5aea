"""Checks the bench's own arithmetic against the core's golden numbers, before anything is measured:
the encoder against transformers, the figures against scikit-learn and plain definitions.
"""

import json
import os

import numpy as np
from safetensors.numpy import load_file

import encoder
import figures
import tables

GOLDEN = os.path.join(tables.HERE, "../../crates/riskft-core/golden")


def check():
    """Raises SystemExit with the name of what differs."""
    with open(os.path.join(GOLDEN, "metrics.json"), encoding="utf-8") as file:
        for case in json.load(file):
            compare(case)
    states()


def compare(case):
    scores, other = np.array(case["scores"]), np.array(case["other"])
    labels = np.array(case["labels"])
    gain, variance = figures.auc_gain(scores, other, labels)
    same(case["name"], "auc", figures.auc(scores, labels), case["auc"])
    same(case["name"], "difference", gain, case["difference"])
    same(case["name"], "difference_error", np.sqrt(variance), case["difference_error"])
    loss = figures.losses(scores, labels).mean()
    same(case["name"], "log_loss", loss, case["log_loss"])


def states():
    """The mean states of short and long texts."""
    with open(os.path.join(GOLDEN, "minilm_texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    pooled = load_file(os.path.join(GOLDEN, "minilm.safetensors"))["pooled"]
    model = encoder.Encoder(os.environ["RISKFT_BASE_DIR"])
    for text, expected in zip(texts, pooled):
        same(text[:40], "states", model.views(text)[0], expected, 2e-5)


def same(case, what, found, expected, within=1e-9):
    apart = float(np.max(np.abs(np.subtract(found, expected))))
    if not apart <= within:
        raise SystemExit(f"the bench's {what} of \"{case}\" is {apart:g} away from golden")
