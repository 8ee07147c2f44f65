//! The rooms of weir, lowest first.

pub mod model;
