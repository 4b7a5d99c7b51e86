//! The command line.

fn main() {
    println!("rillbox {}", env!("CARGO_PKG_VERSION"));
}
