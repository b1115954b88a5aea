"""Writes lora.safetensors: a tiny random BERT, its hidden states by transformers, and LoRA by peft:
a forward pass and two AdamW steps by PyTorch.

    python make_lora.py            (torch 2.11, transformers, peft, safetensors)

tests/golden.rs reads the file.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
TEXTS = [[5], [7, 8], [9, 1], [3, 4, 5, 6], [40, 41, 42, 43], [99, 98, 97, 96, 95, 94, 93]]
RATE, DECAY, CLIP = 1e-2, 0.01, 1.0


def main():
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16, type_vocab_size=2, layer_norm_eps=1e-12,
        hidden_act="gelu", attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.2)
            if "LayerNorm.weight" in name:
                parameter.add_(1.0)
    out = {f"base.{name}": p.detach().clone() for name, p in model.named_parameters()}

    longest = max(map(len, TEXTS))
    ids = torch.tensor([t + [0] * (longest - len(t)) for t in TEXTS])
    mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in TEXTS])
    flat = mask.bool().view(-1)

    def run(network):
        states = network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        weights = mask.unsqueeze(2).to(states[-1].dtype)
        return states, (states[-1] * weights).sum(1) / weights.sum(1)

    with torch.no_grad():
        states, pooled = run(model)
    for index, state in enumerate(states):
        out[f"states.{index}"] = state.reshape(-1, 32)[flat].clone()
    out["pooled"] = pooled.clone()

    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"],
                      layers_to_transform=[1, 2])
    tuned = get_peft_model(model, lora)
    tuned.eval()
    trainable = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in trainable.values():
            parameter.normal_(0, 0.3)

    def keep(prefix):
        for name, parameter in trainable.items():
            layer = name.split("layer.")[1].split(".")[0]
            target = "query" if "query" in name else "value"
            side = "lora_a" if "lora_A" in name else "lora_b"
            out[f"{prefix}.layer.{layer}.{target}.{side}"] = parameter.detach().clone()

    keep("start")
    aim = torch.randn(len(TEXTS), 32)
    out["aim"] = aim
    optimizer = torch.optim.AdamW(trainable.values(), lr=RATE, weight_decay=DECAY)
    for step in (1, 2):
        loss = ((run(tuned)[1] - aim) ** 2).mean() * 100
        out[f"loss.{step}"] = loss.detach().view(1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable.values(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        keep(f"step.{step}")
    with torch.no_grad():
        out["pooled.tuned"] = run(tuned)[1].clone()
    merged = tuned.merge_and_unload()
    out["merged.layer.2.value"] = merged.encoder.layer[2].attention.self.value.weight.detach().clone()
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "lora.safetensors")


main()
