//! Where tables and flows live.

pub mod memory;
