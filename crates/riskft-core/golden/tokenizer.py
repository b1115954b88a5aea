"""A small tokenizer.json of BERT's kind, so that the tokenizer is tested without a base model.

    RISKFT_BASE_DIR=... python tokenizer.py      writes tokenizer_small.json

The vocabulary is the first 2,600 tokens of the base model's, every single character and every
continuing piece of at most three characters in it, with new ids.
"""

import json
import os

with open(os.path.join(os.environ["RISKFT_BASE_DIR"], "tokenizer.json")) as file:
    whole = json.load(file)
tokens = sorted(whole["model"]["vocab"], key=whole["model"]["vocab"].get)
kept = [
    token
    for id, token in enumerate(tokens)
    if not token.startswith("[unused")
    and (id < 2600 or len(token) == 1 or (token.startswith("##") and len(token) <= 5))
]
whole["model"]["vocab"] = {token: id for id, token in enumerate(kept)}
whole["truncation"] = whole["padding"] = None
for token in whole["added_tokens"]:
    token["id"] = kept.index(token["content"])
special = whole["post_processor"]["special_tokens"]
for name in special:
    special[name]["ids"] = [kept.index(name)]
with open("tokenizer_small.json", "w") as out:
    json.dump(whole, out, ensure_ascii=False, separators=(",", ":"))
print(len(kept), "tokens")
