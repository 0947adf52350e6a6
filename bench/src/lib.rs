//! Measurements: primitives alone and the whole path.
