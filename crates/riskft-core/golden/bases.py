"""Tiny random models of each architecture, as Hugging Face folders, and their numbers.

    python bases.py     writes tiny_finbert/, tiny_roberta/ and tiny_distilbert/

Each folder has what a user imports: config.json, model.safetensors and a tokenizer. FinBERT is a
BertForSequenceClassification with a cased vocab.txt; RoBERTa has the tokenizer.json of a byte-level
BPE, DistilBERT that of a WordPiece. golden.safetensors holds ids and states in f32 by transformers
(see encoder.py), so that reading the folder, the trainer and the int8 encoder can be compared.

Made with torch 2.11, transformers 5, tokenizers 0.23. Run in this folder.
"""

import csv
import gzip
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer, BertWordPieceTokenizer, processors
from transformers import (
    AutoTokenizer, BertConfig, BertForSequenceClassification, DistilBertConfig, DistilBertModel,
    RobertaConfig, RobertaForSequenceClassification,
)

from encoder import TEXTS, pack

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 48, 2, 4, 80, 64


def corpus():
    """Texts of the sample data, to train the small tokenizers on."""
    for file, columns in [
        ("sba_loans.csv.gz", ["borrower", "city", "bank"]),
        ("cfpb_complaints.csv.gz", ["narrative", "company", "issue"]),
    ]:
        path = os.path.join("../../../tests/data", file)
        with gzip.open(path, "rt", encoding="utf-8", newline="") as rows:
            for row in list(csv.DictReader(rows))[:3000]:
                yield from (row[column] for column in columns)


def wordpiece(lowercase):
    tokenizer = BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(corpus(), vocab_size=700, show_progress=False)
    special = [(token, tokenizer.token_to_id(token)) for token in ["[SEP]", "[CLS]"]]
    tokenizer._tokenizer.post_processor = processors.BertProcessing(*special)
    return tokenizer


def byte_level():
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        corpus(), vocab_size=700, special_tokens=special, show_progress=False
    )
    tokenizer._tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0)
    )
    return tokenizer


def spread(model):
    """Weights wide enough that every part shows in the states."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "norm" in name.lower():
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def write(folder, model, config, tokenizer, settings):
    """`config` are the keys that the model is read by; `tokenizer` writes its own file."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if "_ids" not in k}
    save_file(weights, os.path.join(folder, "model.safetensors"))
    for file, content in [("config.json", config), ("tokenizer_config.json", settings)]:
        with open(os.path.join(folder, file), "w") as out:
            json.dump(content, out, indent=1)
    tokenizer(folder)
    ids = AutoTokenizer.from_pretrained(folder)
    lists = [ids(text, truncation=True, max_length=POSITIONS)["input_ids"] for text in TEXTS]
    save_file(pack(model.base_model, lists, {1, 15}), os.path.join(folder, "golden.safetensors"))
    print(folder, len(ids), "tokens;", ids.convert_ids_to_tokens(lists[7]))


def finbert():
    tokenizer = wordpiece(lowercase=False)
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert",
        "hidden_act": "gelu", "num_hidden_layers": LAYERS, "hidden_size": WIDTH,
        "num_attention_heads": HEADS, "intermediate_size": INNER,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }
    model = BertForSequenceClassification(BertConfig(**config, initializer_range=0.2))
    settings = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    write("tiny_finbert", spread(model), config, lambda f: tokenizer.save_model(f), settings)


def roberta():
    tokenizer = byte_level()
    config = {
        "architectures": ["RobertaForSequenceClassification"], "model_type": "roberta",
        "hidden_act": "gelu", "num_hidden_layers": LAYERS, "hidden_size": WIDTH,
        "num_attention_heads": HEADS, "intermediate_size": INNER,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": POSITIONS + 2,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2,
    }
    model = RobertaForSequenceClassification(RobertaConfig(**config, initializer_range=0.2))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
    }
    save = lambda f: tokenizer.save(os.path.join(f, "tokenizer.json"), pretty=False)
    write("tiny_roberta", spread(model), config, save, settings)


def distilbert():
    tokenizer = wordpiece(lowercase=True)
    config = {
        "architectures": ["DistilBertModel"], "model_type": "distilbert", "activation": "gelu",
        "n_layers": LAYERS, "dim": WIDTH, "n_heads": HEADS, "hidden_dim": INNER,
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }
    model = DistilBertModel(DistilBertConfig(**config, initializer_range=0.2))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    save = lambda f: tokenizer.save(os.path.join(f, "tokenizer.json"), pretty=False)
    write("tiny_distilbert", spread(model), config, save, settings)


torch.manual_seed(20240229)
finbert()
roberta()
distilbert()
