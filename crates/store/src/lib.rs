//! Models on disk: sources, verification, adoption.
