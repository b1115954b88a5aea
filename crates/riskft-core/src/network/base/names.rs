//! Names of tensors in the files of each architecture -> canonical names.

/// `bert.encoder.layer.0.attention.self.query.weight` and
/// `distilbert.transformer.layer.0.attention.q_lin.weight` -> `layer.0.query.weight`; None for
/// tensors that the encoder does not use (pooler, heads of a task, position ids).
pub fn canonical_name(name: &str) -> Option<String> {
    let (path, last) = without_prefix(name).rsplit_once('.')?;
    let last = match last {
        "weight" | "gamma" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    if let Some(table) = path.strip_prefix("embeddings.") {
        return match (table, last) {
            ("word_embeddings", "weight") => Some("embeddings.word".to_owned()),
            ("position_embeddings", "weight") => Some("embeddings.position".to_owned()),
            ("token_type_embeddings", "weight") => Some("embeddings.token_type".to_owned()),
            ("LayerNorm", _) => Some(format!("embeddings.norm.{last}")),
            _ => None,
        };
    }
    let (layer, part) = match path.strip_prefix("transformer.layer.") {
        Some(rest) => rest.split_once('.').map(|(layer, part)| (layer, distilbert(part)))?,
        None => path
            .strip_prefix("encoder.layer.")?
            .split_once('.')
            .map(|(layer, part)| (layer, bert(part)))?,
    };
    Some(format!("layer.{layer}.{}.{last}", part?))
}

/// A model with a task's head has its encoder under a prefix.
fn without_prefix(name: &str) -> &str {
    let prefixes = ["bert.", "roberta.", "distilbert."];
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Of a layer of BERT or RoBERTa.
fn bert(part: &str) -> Option<&'static str> {
    Some(match part {
        "attention.self.query" => "query",
        "attention.self.key" => "key",
        "attention.self.value" => "value",
        "attention.output.dense" => "attention_output",
        "attention.output.LayerNorm" => "attention_norm",
        "intermediate.dense" => "intermediate",
        "output.dense" => "output",
        "output.LayerNorm" => "output_norm",
        _ => return None,
    })
}

/// Of a layer of DistilBERT.
fn distilbert(part: &str) -> Option<&'static str> {
    Some(match part {
        "attention.q_lin" => "query",
        "attention.k_lin" => "key",
        "attention.v_lin" => "value",
        "attention.out_lin" => "attention_output",
        "sa_layer_norm" => "attention_norm",
        "ffn.lin1" => "intermediate",
        "ffn.lin2" => "output",
        "output_layer_norm" => "output_norm",
        _ => return None,
    })
}

/// Whether a name is one of DistilBERT's layers, which know no token types.
pub(super) fn is_distilbert(name: &str) -> bool {
    without_prefix(name).starts_with("transformer.layer.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_spellings_are_known() {
        for (name, canonical) in [
            ("bert.embeddings.LayerNorm.gamma", Some("embeddings.norm.weight")),
            ("embeddings.word_embeddings.weight", Some("embeddings.word")),
            ("roberta.embeddings.position_embeddings.weight", Some("embeddings.position")),
            ("embeddings.word_embeddings.bias", None),
            ("encoder.layer.11.attention.self.query.bias", Some("layer.11.query.bias")),
            ("encoder.layer.0.output.LayerNorm.weight", Some("layer.0.output_norm.weight")),
            ("distilbert.transformer.layer.3.attention.v_lin.bias", Some("layer.3.value.bias")),
            ("transformer.layer.0.sa_layer_norm.weight", Some("layer.0.attention_norm.weight")),
            ("transformer.layer.0.ffn.lin1.weight", Some("layer.0.intermediate.weight")),
            ("transformer.layer.0.attention.self.query.weight", None),
            ("pooler.dense.weight", None),
            ("pre_classifier.weight", None),
            ("classifier.out_proj.weight", None),
            ("embeddings.position_ids", None),
            ("lm_head", None),
        ] {
            assert_eq!(canonical_name(name).as_deref(), canonical, "{name}");
        }
        assert!(is_distilbert("distilbert.transformer.layer.0.ffn.lin1.weight"));
        assert!(!is_distilbert("bert.encoder.layer.0.output.dense.weight"));
    }
}
