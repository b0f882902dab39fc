//! The pool of the kernels by itself, for its model under loom (`just loom`): that needs nothing
//! else of them, and under loom's flag they would be compiled anew.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub)] // What the kernels use of it.

#[path = "../src"]
mod kernels {
    mod pool;
}
