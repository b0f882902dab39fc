//! Sequences, sampler, the step loop and its events: the embeddable library.
