//! The rooms of weir, lowest first.
