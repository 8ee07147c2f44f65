//! The rooms of weir, lowest first.

pub mod model;

pub mod node;

pub mod api;

pub mod client;

pub mod agent;
pub mod cli;
