//! The rooms of weir, lowest first.

pub mod dataplane;
pub mod model;
pub mod plan;
