//! Text -> token ids by core's tokenizer, checked against the crate `tokenizers`.
//!
//! Scoring reads text by core's own tokenizer. Each run compares it with the crate that the base
//! model was made with, on a sample of the run's own texts, so that no difference goes unseen.

use riskft_core::protocol::{cut, MAX_TEXT};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::tokenize::{Layout, Tokenizer};
use tokenizers::Tokenizer as Oracle;

/// Most texts that are compared.
const CHECKED: usize = 500;

/// A compiled vocabulary and its oracle.
pub struct Words {
    compiled: Vec<u8>,
    layout: Layout,
    oracle: Oracle,
}

fn unsupported(detail: String) -> Refusal {
    Refusal::new(code::NOT_SUPPORTED, "tokenizer of the base model is not supported")
        .detail(detail)
        .hint("Use a base model with BERT's WordPiece or RoBERTa's byte-level BPE tokenizer.")
}

impl Words {
    /// `compiled` is core's vocabulary of the tokenizer.json `json`.
    ///
    /// # Errors
    /// 0A000 when either cannot be used.
    pub fn new(compiled: Vec<u8>, json: &[u8]) -> Result<Self> {
        let layout = Layout::check(&compiled)
            .ok_or_else(|| unsupported("Its vocabulary cannot be compiled.".to_owned()))?;
        let mut oracle = Oracle::from_bytes(json)
            .map_err(|e| unsupported(format!("Its tokenizer.json cannot be read: {e}.")))?;
        // The file may ask for a fixed length: every text would cost that many tokens.
        oracle.with_padding(None);
        oracle
            .with_truncation(None)
            .map_err(|e| unsupported(format!("Its truncation cannot be switched off: {e}.")))?;
        // "[CLS]" within a text is plain text.
        oracle.set_encode_special_tokens(true);
        Ok(Words { compiled, layout, oracle })
    }

    /// The compiled vocabulary's bytes.
    pub fn compiled(&self) -> &[u8] {
        &self.compiled
    }

    /// Token ids of texts, each with its own limit.
    pub fn encode(&self, texts: &[(String, usize)]) -> Vec<Vec<i32>> {
        let vocabulary = self.layout.vocabulary(&self.compiled);
        let mut tokenizer = Tokenizer::default();
        let mut ids = Vec::new();
        texts
            .iter()
            .map(|(text, most)| {
                tokenizer.encode(&vocabulary, text, *most, &mut ids);
                ids.iter().map(|id| *id as i32).collect()
            })
            .collect()
    }

    /// Compares both tokenizers on a sample of the texts.
    ///
    /// # Errors
    /// 0A000 naming the first text that differs.
    pub fn check(&self, texts: &[(String, usize)]) -> Result<()> {
        let stride = texts.len().div_ceil(CHECKED).max(1);
        let sample: Vec<(String, usize)> =
            texts.iter().step_by(stride).map(|(text, _)| (text.clone(), usize::MAX)).collect();
        for ((text, _), ours) in sample.iter().zip(self.encode(&sample)) {
            let theirs = self
                .oracle
                .encode(cut(text, MAX_TEXT), true)
                .map_err(|e| unsupported(format!("It fails on a text: {e}.")))?;
            // Two special tokens around nothing, or around blanks, are no text to core.
            let blank = text.chars().all(char::is_whitespace);
            let theirs = Some(theirs.get_ids()).filter(|ids| ids.len() > 2 && !blank);
            let theirs = theirs.unwrap_or_default();
            if !ours.iter().map(|id| *id as u32).eq(theirs.iter().copied()) {
                let shown: String = text.chars().take(80).collect();
                return Err(unsupported(format!("It splits the text \"{shown}\" in another way.")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riskft_core::tokenize::compile_tokenizer_json;

    /// `model_vocab` may differ between the two tokenizers, as a damaged build would have it.
    fn file(second: &str) -> Vec<u8> {
        format!(
            r###"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
            "normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,
            "strip_accents":null,"lowercase":true}},"pre_tokenizer":{{"type":"BertPreTokenizer"}},
            "post_processor":{{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]}},
            "decoder":null,"model":{{"type":"WordPiece","unk_token":"[UNK]",
            "continuing_subword_prefix":"##","max_input_chars_per_word":100,
            "vocab":{{"[UNK]":0,"[CLS]":1,"[SEP]":2,"loan":3,"{second}":4}}}}}}"###
        )
        .into_bytes()
    }

    fn words(compiled: &[u8], oracle: &[u8]) -> Words {
        let compiled = compile_tokenizer_json(compiled).map_err(|r| r.detail).unwrap();
        Words::new(compiled, oracle).map_err(|r| r.detail).unwrap()
    }

    fn texts(list: &[&str]) -> Vec<(String, usize)> {
        list.iter().map(|text| ((*text).to_owned(), 4)).collect()
    }

    #[test]
    fn texts_become_ids_within_their_limit() {
        let words = words(&file("##s"), &file("##s"));
        let texts = texts(&["LOANS", "loan loan loan", " \u{1} ", "[SEP]"]);
        assert_eq!(
            words.encode(&texts),
            [vec![1, 3, 4, 2], vec![1, 3, 3, 2], vec![], vec![1, 0, 0, 2]]
        );
        assert_eq!(words.check(&texts), Ok(()));
    }

    #[test]
    fn a_difference_between_the_tokenizers_is_refused() {
        let words = words(&file("##s"), &file("##x"));
        assert_eq!(words.check(&texts(&["loan"])), Ok(()));
        let refusal = words.check(&texts(&["loan", "loans"])).unwrap_err();
        assert_eq!(refusal.code, code::NOT_SUPPORTED);
        assert!(refusal.detail.contains("\"loans\""));
    }
}
