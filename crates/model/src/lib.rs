//! Architecture descriptions, weights, KV pages and one forward pass.
