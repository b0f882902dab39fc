//! The HTTP service: dialects and the one request path.
