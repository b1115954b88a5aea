//! Text -> WordPiece ids over a memory-mapped vocabulary.
