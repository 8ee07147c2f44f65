//! What a developer of weir runs.

fn main() {}
