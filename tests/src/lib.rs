//! What crosses the rooms of weir: the lab and the tests that use it.
