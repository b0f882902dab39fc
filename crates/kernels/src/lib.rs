//! Quantised block formats, packing, the SIMD maths over them, and the worker pool.
