//! t
#[allow(clippy::print_stdout)]
fn main() { println!("hi"); }
