//! `ana`: the command line of Anabranch.

fn main() {}
