"""Golden numbers of the text encoder, in f32 by transformers on PyTorch.

    python encoder.py            writes tiny_bert/ (a random BERT of odd sizes and its states)
    RISKFT_BASE_DIR=... python encoder.py
                                 writes minilm.safetensors too (ids, pooled vectors, states)

Made with torch 2.11, transformers 5, tokenizers 0.22. Run in this folder.
"""

import copy
import json
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

TEXTS = [
    "PAPPA'S PIZZA",
    "The welding shop inc",
    "NORWALK",
    "BANK OF AMERICA NATL ASSOC",
    "SANTANDER BANK NATL ASSOC",
    "J & L TRUCKING, LLC",
    "a",
    "Café Zoë São Paulo",
    "Full-service restaurants",
    "Offices of Physicians (except Mental Health Specialists)",
    "loan 60,000.00 for 84 months",
    "中文 bank 株式会社",
    "!!!",
    "I was charged an overdraft fee twice.",
    "They refused to refund the late fee although I paid on time and have the receipts to prove it.",
    "My credit line amount is {$1400.00}. In XXXX of XXXX my balance was {$1400.00}. The fees and "
    "billing charges are {$85.00} each bi-weekly period. According to the Truth in Lending act "
    "there needs to be a break down on the statement of the amount of interest you are charging.",
    "unaffable transubstantiation pneumonoultramicroscopicsilicovolcanoconiosis",
    "New York",
    "interest " * 120,
    "The bank closed my account without notice and kept the money. " * 16,
]
MOST = 256


def rounded(x):
    """Each row as int8 with the scale max/127, and back."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    return torch.nan_to_num((x / scale).round()) * scale


def rounded_but_peak(x):
    """The same, the row's largest value left out and exact."""
    at = x.abs().argmax(-1, keepdim=True)
    peak = torch.zeros_like(x).scatter(-1, at, x.gather(-1, at))
    return rounded(x - peak) + peak


def emulated(model):
    """The model with the engine's int8 weights and activations, in float arithmetic."""
    model = copy.deepcopy(model)
    words = model.embeddings.word_embeddings
    with torch.no_grad():
        words.weight.copy_(rounded(words.weight))
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(rounded(module.weight))
                module.register_forward_pre_hook(lambda _, x: (rounded_but_peak(x[0]),))
    return model


def states(model, ids):
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    return [state[0].contiguous() for state in out.hidden_states]


def pack(model, lists, detailed):
    """pooled [texts, width] in f32, the same emulated in int8, ids and ends; states.{i}.{layer}
    of the texts in `detailed`."""
    tensors, pooled = {}, []
    for i, ids in enumerate(lists):
        layers = states(model, ids)
        pooled.append(layers[-1].mean(0))
        if i in detailed:
            for layer, state in enumerate(layers):
                tensors[f"states.{i}.{layer}"] = state
    tensors["pooled"] = torch.stack(pooled)
    int8 = emulated(model)
    tensors["emulated"] = torch.stack([states(int8, ids)[-1].mean(0) for ids in lists])
    tensors["ids"] = torch.tensor([id for ids in lists for id in ids], dtype=torch.int32)
    ends = torch.tensor([len(ids) for ids in lists]).cumsum(0)
    tensors["ends"] = ends.to(torch.int32)
    return tensors


def tiny():
    torch.manual_seed(20240229)
    config = BertConfig(
        vocab_size=211, hidden_size=60, num_hidden_layers=3, num_attention_heads=5,
        intermediate_size=104, max_position_embeddings=70, type_vocab_size=2,
        hidden_act="gelu", layer_norm_eps=1e-12, initializer_range=0.2,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "LayerNorm" in name:
                parameter.uniform_(0.5, 1.5)
    os.makedirs("tiny_bert", exist_ok=True)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
    save_file(weights, "tiny_bert/model.safetensors")
    config = {
        "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
        "num_hidden_layers": 3, "hidden_size": 60, "num_attention_heads": 5,
        "intermediate_size": 104, "vocab_size": 211, "max_position_embeddings": 70,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    }
    with open("tiny_bert/config.json", "w") as out:
        json.dump(config, out, indent=1)
    generator = torch.Generator().manual_seed(1)
    lists = [
        torch.randint(0, 211, (length,), generator=generator).tolist()
        for length in [1, 2, 3, 5, 7, 8, 15, 16, 17, 33, 49, 70]
    ]
    save_file(pack(model, lists, {4, 9}), "tiny_bert/golden.safetensors")


def minilm(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST)
    with open(os.path.join(folder, "config.json")) as file:
        config = BertConfig(**json.load(file))
    model = BertModel(config, add_pooling_layer=False).eval()
    weights = load_file(os.path.join(folder, "model.safetensors"))
    weights = {k.removeprefix("bert."): v for k, v in weights.items()}
    missing, _ = model.load_state_dict(weights, strict=False)
    assert not [name for name in missing if "position_ids" not in name], missing
    lists = [tokenizer.encode(text).ids for text in TEXTS]
    save_file(pack(model, lists, {1}), "minilm.safetensors")
    with open("minilm_texts.json", "w") as out:
        json.dump(TEXTS, out, indent=1)


if __name__ == "__main__":
    tiny()
    if "RISKFT_BASE_DIR" in os.environ:
        minilm(os.environ["RISKFT_BASE_DIR"])
