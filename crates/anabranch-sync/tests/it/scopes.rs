//! Rights: words, what they imply, and what each frame needs, as `specs` of tokens say it.

use anabranch_sync::scope::Direction::{FromHolder, ToHolder};
use anabranch_sync::scope::{Action, Scope, Scopes};

#[test]
fn words_give_what_they_imply() {
    let check = |words: &str, expected: &[Scope]| {
        let scopes = Scopes::from_words(words.split(' '));
        let found: Vec<Scope> = Scope::ALL.into_iter().filter(|s| scopes.has(*s)).collect();
        assert_eq!(found, expected, "{words}");
        assert_eq!(Scopes::from_bits(scopes.bits()), Some(scopes), "{words}");
    };
    use Scope::{Admin, Presence, Read, Write};
    check("", &[]);
    check("READ reads read\n root *", &[]);
    check("read", &[Read]);
    check("presence", &[Presence]);
    check("write", &[Read, Write, Presence]);
    check("read presence", &[Read, Presence]);
    check("admin", &[Read, Write, Presence, Admin]);
    for bits in [2, 3, 6, 8, 9, 14, 16, 0xff] {
        assert_eq!(Scopes::from_bits(bits), None, "{bits}");
    }
}

/// Each frame with no word, `read`, `presence`, `write` and `admin`, both ways.
#[test]
fn frames_need_rights() {
    let words = ["", "read", "presence", "write", "admin"];
    let check = |action: Action, from: &str, to: &str| {
        for (direction, expected) in [(FromHolder, from), (ToHolder, to)] {
            let may = |word: &&str| Scopes::from_words([*word]).allow(action, direction);
            let found: String =
                words.iter().map(|word| if may(word) { '+' } else { '-' }).collect();
            assert_eq!(found, expected, "{} {direction:?}", action.name());
        }
    };
    check(Action::Hello, "+++++", "+++++");
    check(Action::HelloAsRelay, "----+", "+++++");
    check(Action::Have, "+++++", "+++++");
    check(Action::Error, "+++++", "+++++");
    check(Action::Ack, "-+-++", "-+-++");
    check(Action::Chains, "-+-++", "-+-++");
    check(Action::Delta, "---++", "-+-++");
    check(Action::BlobWant, "-+-++", "---++");
    check(Action::BlobChunk, "---++", "-+-++");
    check(Action::Presence, "--+++", "--+++");
    check(Action::AskReceipts, "-+-++", "----+");
    check(Action::TellReceipts, "----+", "-+-++");
    check(Action::Resume, "----+", "-+-++");
}
