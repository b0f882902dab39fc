//! Reads, checks and writes GGUF files: metadata and a tensor directory over a mapping.
