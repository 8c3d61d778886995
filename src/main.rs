//! dagd
fn main() {}
