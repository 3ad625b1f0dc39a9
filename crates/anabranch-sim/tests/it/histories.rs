//! Random histories on real databases against the model, and proof that a wrong rule
//! would be seen: each rule is broken in the model, and a few histories must notice.

use anabranch_sim::history::{Plan, run};
use anabranch_sim::model::Broken;

/// Seeds of a run: one from `ANABRANCH_SEED`, or `n` fixed ones.
fn seeds(n: u64) -> std::ops::Range<u64> {
    match std::env::var("ANABRANCH_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..n,
    }
}

fn play(seed: u64, plan: Plan) -> Result<(), Box<anabranch_sim::history::Failure>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(seed, plan, folder.path())
}

#[test]
fn short_histories_agree_with_the_model() {
    for seed in seeds(60) {
        if let Err(failure) = play(seed, Plan::short()) {
            panic!("\n{failure}");
        }
    }
}

#[test]
fn long_histories_agree_with_the_model() {
    for seed in seeds(2) {
        if let Err(failure) = play(seed, Plan { n_steps: 50, ..Plan::long() }) {
            panic!("\n{failure}");
        }
    }
}

#[test]
fn each_broken_rule_is_seen() {
    const RULES: [Broken; 22] = [
        Broken::ShorterLifeWins,
        Broken::EqualDeathWins,
        Broken::DeathKeepsCells,
        Broken::RaiseKeepsVersions,
        Broken::LowerVersionWins,
        Broken::SmallerValueWins,
        Broken::EqualValueWins,
        Broken::TypesIgnored,
        Broken::ImportKeepsNoOrigin,
        Broken::ImportIgnoresDbVersion,
        Broken::ImportMovesForeignVector,
        Broken::DeltaRaiseKeepsCells,
        Broken::DeltaIgnoresDeath,
        Broken::InsertForgetsDeath,
        Broken::ReplaceRestartsVersions,
        Broken::ReplaceTakesNoSeq,
        Broken::UnchangedColumnsCount,
        Broken::DeleteIsNoBirth,
        Broken::KeyUpdateKeepsVersions,
        Broken::KeyUpdateForgetsOldKey,
        Broken::KeyUpdateSentinelsFirst,
        Broken::EmptyUpdateTakesVersion,
    ];
    const MAX_SEEDS: u64 = 100;
    let mut unseen = Vec::new();
    for broken in RULES {
        match (0..MAX_SEEDS).find(|seed| play(*seed, Plan::dense(broken)).is_err()) {
            Some(seed) => println!("{broken:?}: seen by seed {seed}"),
            None => unseen.push(broken),
        }
    }
    assert!(unseen.is_empty(), "no history saw {unseen:?}");
}
