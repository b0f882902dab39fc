//! Tokenizers from GGUF metadata, streaming detokenizer, chat templates.
