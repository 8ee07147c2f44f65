//! External.
