//! All automation of this workspace: `cargo xtask help` lists it.
//!
//! Each command is a file. They run cargo and other programs, and nothing else does:
//! CI calls `cargo xtask check --ci`, a developer `cargo xtask check`.

mod bench;
mod check;
mod dist;
mod licences;
mod long_run;
mod needs;
mod run;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  check [crate] [--ci]    format, lints, build, tests; ends with `N passed, N failed`.
                          With a crate: compiles the workspace, runs that crate's tests.
                          --ci: a skipped test is a failure.
  setup                   installs what tests need (npm and Debian packages), and says so
  bench [tables|sync] [args]
                          measures tables against plain SQLite, or a relay against the disk and
                          Hocuspocus, in the same run; --help lists more
  fuzz [target] [--seconds N]
                          seeded fuzzing of decoders and SQL functions (default: all, 60 s each)
  histories [--seeds N] [--from S]
                          long random histories on 2 to 5 databases against the model
  sim [--seeds N] [--seed S] [--long]
                          simulated worlds: copies, relays, faults of all kinds, one seed each
  crash [--parts | --kill N] [--rows N] [--seed S]
                          a disk that fails, tears or dies at its k-th write or sync, for every
                          k; --parts: deltas in parts only; --kill: kill -9 of a writing process
  kill [--cycles N] [--seed S]
                          kill -9 of a relay, two copies that sync and their writers (500 cycles)
  dist                    libanabranch.* and crsqlite.* in target/dist-out
  licences                every package that we build on is under a permissive licence
  tidy                    line width, stray marks, dead links in the docs
  help                    this text

example: cargo xtask check anabranch-core
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match command {
        "check" => check::check(rest),
        "setup" => needs::setup().map(|_| ()),
        "bench" => bench::bench(rest),
        "fuzz" => long_run::fuzz(rest),
        "histories" => long_run::histories(rest),
        "sim" => long_run::worlds(rest),
        "crash" => long_run::crash(rest),
        "kill" => long_run::kill(rest),
        "dist" => dist::dist(),
        "licences" => licences::licences(),
        "tidy" => tidy::tidy(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprint!("error: no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
