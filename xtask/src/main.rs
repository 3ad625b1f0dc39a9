//! All automation of this workspace: `cargo xtask help` lists it.

fn main() {
    println!("cargo xtask check | bench | fuzz | dist");
}
