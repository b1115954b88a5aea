"""Vectors of the frozen base model, all-MiniLM-L6-v2, in plain f32 arithmetic.

A BERT of six layers from its safetensors file, as transformers computes it: the states of a text's
tokens, averaged. Written out here because the PyTorch that PyPI has is 2.5 GB of CUDA.
"""

import hashlib
import os

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH = 6, 12, 384
# Tokens of a window, the two special ones not counted.
WINDOW = 254
FIRST, LAST = 101, 102


def vectors(folder, texts):
    """Two views of the texts, float64 [texts, 384]: the first window, and all windows."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    kept = os.path.join(folder, f"vectors-{digest}.npz")
    if not os.path.exists(kept):
        model = Encoder(os.environ["RISKFT_BASE_DIR"])
        both = np.array([model.views(text) for text in texts])
        np.savez(kept + ".new.npz", first=both[:, 0], whole=both[:, 1])
        os.replace(kept + ".new.npz", kept)
    with np.load(kept) as found:
        return {"first window": found["first"], "all windows": found["whole"]}


class Encoder:
    def __init__(self, folder):
        self.weights = load_file(os.path.join(folder, "model.safetensors"))
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def views(self, text):
        """The mean states of the first window and of all windows, weighted by their tokens."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        windows = [ids[at:at + WINDOW] for at in range(0, max(len(ids), 1), WINDOW)]
        means = [self.states([FIRST, *window, LAST]).mean(0) for window in windows]
        lengths = [len(window) + 2 for window in windows]
        return means[0], np.average(means, axis=0, weights=lengths)

    def states(self, ids):
        """The last layer's states, [tokens, width]."""
        w, base = self.weights, "embeddings."
        x = (w[base + "word_embeddings.weight"][ids]
             + w[base + "position_embeddings.weight"][:len(ids)]
             + w[base + "token_type_embeddings.weight"][0])
        x = self.norm(x, base + "LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            x = self.norm(x + self.attention(x, at + "attention."), at + "attention.output.LayerNorm")
            inner = self.linear(x, at + "intermediate.dense")
            inner = inner * (1 + erf(inner / np.float32(np.sqrt(2)))) / 2
            x = self.norm(x + self.linear(inner, at + "output.dense"), at + "output.LayerNorm")
        return x

    def attention(self, x, at):
        heads = lambda name: self.linear(x, f"{at}self.{name}").reshape(len(x), HEADS, -1)
        query, key, value = (heads(name).transpose(1, 0, 2) for name in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(WIDTH // HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ value).transpose(1, 0, 2).reshape(len(x), WIDTH)
        return self.linear(mixed, at + "output.dense")

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]
