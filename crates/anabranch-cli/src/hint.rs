//! What to do next, by what SQLite or the store said.
//!
//! Messages are matched by the words that SQLite and the store promise not to change;
//! an unknown message has no hint.

use std::borrow::Cow;

use crate::failure::Exit;

/// Words of a message, and what helps then; the first that matches counts.
const HINTS: &[(&str, &str)] = &[
    ("no such table", "`.tables` in `ana sql` lists the tables there are"),
    ("no such column", "`.schema TABLE` in `ana sql` shows the columns there are"),
    ("has no column named", "`.schema TABLE` in `ana sql` shows the columns there are"),
    ("near \".\": syntax error", "commands with a dot are read from standard input: `ana sql DB`"),
    ("syntax error", "text goes in 'single quotes', names in \"double quotes\""),
    ("unrecognized token", "text goes in 'single quotes', names in \"double quotes\""),
    ("incomplete input", "the statement stops too early: a bracket, quote or word is missing"),
    ("no such function", "functions of ours begin with ana_ or crsql_"),
    ("not a database", "the file is something else, or encrypted, or damaged"),
    ("was altered", "`ana crr DB TABLE` brings the table up to date"),
    ("must have a non nullable primary key", "declare the key: id TEXT PRIMARY KEY NOT NULL"),
    ("NOT NULL column without a DEFAULT", "give the column a DEFAULT, or let it be NULL"),
    ("unique indices besides", "drop the UNIQUE constraint: copies cannot keep it alone"),
    ("checked foreign key", "drop REFERENCES from the table: a merge may bring rows in any order"),
    ("auto-increment", "use a key that names the row, such as a UUID"),
    (
        "unknown table",
        "both need the same tables: CREATE TABLE where it is missing, then `ana crr`",
    ),
    (
        "unknown column",
        "both need the same columns: ALTER TABLE where it is missing, then `ana crr`",
    ),
    (
        "invalid peer certificate",
        "SSL_CERT_FILE names a file of certificates to trust; the URL's host must be in them",
    ),
    ("speaks no TLS", "a relay without --tls-cert is reached by ws://; else check the port"),
    ("damaged on its way", "copy the file again, or export again"),
    ("missing: changes of site", "export again without --since, or --since this copy's vector"),
    ("SiteReused", "copies went on under one site id: `ana merge` or `ana sync` heals them"),
    ("peer certificate", "trust the relay's certificate: SSL_CERT_FILE=cert.pem"),
    (
        "Unauthorized",
        "show a token: --token, or the variable ANABRANCH_TOKEN (`ana token` makes one)",
    ),
    ("TokenEnded", "show another token: --token, or the variable ANABRANCH_TOKEN"),
    ("Forbidden", "the token does not allow it; `ana token --scope write` makes one that does"),
    ("ClockAhead", "the author's clock is wrong; set it, or try again later"),
    ("constraint failed", "the data breaks a rule of this table; nothing was changed"),
];

/// The hint for a message, if there is a good one.
pub(crate) fn for_message(message: &str, exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Again => return Some("another program is writing; run the command again"),
        Exit::Io if message.contains("readonly") || message.contains("unable to open") => {
            return Some("check that you may write the file and its folder");
        }
        Exit::Io if message.contains("full") => return Some("free some space and try again"),
        _ => {}
    }
    HINTS.iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| *hint)
}

/// A path or name as one word of a command line, so that a hint can be copied: what a shell
/// might read otherwise is put in single quotes.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    // A backslash parts folders where paths are written with it, and is no escape there.
    let is_safe = |letter: char| {
        letter.is_alphanumeric()
            || "/._-+:,@%".contains(letter)
            || (letter == '\\' && cfg!(windows))
    };
    if !text.is_empty() && text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_messages_have_a_hint() {
        for (message, exit, expected) in [
            ("no such table: airprt", Exit::Refused, ".tables"),
            ("near \"SELEC\": syntax error", Exit::Refused, "quotes"),
            ("database is locked", Exit::Again, "again"),
            ("attempt to write a readonly database", Exit::Io, "write"),
        ] {
            let hint = for_message(message, exit).expect(message);
            assert!(hint.contains(expected), "{message}: {hint}");
        }
        assert_eq!(for_message("something else", Exit::Refused), None);
    }

    #[test]
    fn words_for_a_shell() {
        for (text, expected) in [
            ("a.db", "a.db"),
            ("./über/a-b_c+1.db", "./über/a-b_c+1.db"),
            ("my notes.db", "'my notes.db'"),
            ("it's.db", r"'it'\''s.db'"),
            ("a\"b.db", "'a\"b.db'"),
            ("$HOME.db", "'$HOME.db'"),
            ("~a.db", "'~a.db'"),
            ("", "''"),
        ] {
            assert_eq!(word(text), expected);
        }
    }
}
