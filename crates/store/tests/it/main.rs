//! The tests of the store that need its outside alone, in one program: linked once.

mod house;
mod hub;
mod latest;
mod oci;
mod pip;
mod signed;
mod space;
mod support;
