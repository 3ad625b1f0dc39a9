//! SQL text cut into statements: where one ends, and whether the last one has.
//!
//! The rule is that of SQLite's `sqlite3_complete` (sqlite.org/c3ref/complete.html): a
//! statement ends at a semicolon outside quotes, brackets and comments; inside
//! CREATE TRIGGER only at `; END ;`.

/// A text cut into statements.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Script<'a> {
    /// Each statement with its semicolon, without surrounding space; empty ones left out.
    pub(crate) statements: Vec<&'a str>,
    /// What follows the last complete statement; empty if only space and comments do.
    pub(crate) rest: &'a str,
}

impl Script<'_> {
    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.rest.is_empty()
    }
}

/// Cuts a text.
pub(crate) fn split(text: &str) -> Script<'_> {
    let mut script = Script { statements: Vec::new(), rest: "" };
    let mut statement = Progress::default();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let token = next_token(&text[at..]);
        at += token.len_bytes;
        if statement.is_ended_by(&token) {
            if statement.has_words {
                script.statements.push(text[start..at].trim());
            }
            start = at;
            statement = Progress::default();
        }
    }
    if statement.has_words {
        script.rest = text[start..].trim();
    }
    script
}

/// The first word of a statement in capitals, comments skipped.
pub(crate) fn verb(statement: &str) -> String {
    let mut at = 0;
    while at < statement.len() {
        let token = next_token(&statement[at..]);
        if let Kind::Word(word) = token.kind {
            return word.to_ascii_uppercase();
        }
        at += token.len_bytes;
    }
    String::new()
}

/// How far a statement has been read.
#[derive(Default)]
struct Progress {
    has_words: bool,
    /// Words so far, up to four: enough to know a trigger by.
    head: Vec<String>,
    /// In a trigger: a semicolon came, and nothing but END since.
    semicolon_seen: bool,
    end_seen: bool,
}

impl Progress {
    fn is_ended_by(&mut self, token: &Token<'_>) -> bool {
        match &token.kind {
            Kind::Space => false,
            Kind::Semicolon if !self.is_trigger() => true,
            Kind::Semicolon => {
                let is_end = self.end_seen;
                (self.semicolon_seen, self.end_seen) = (true, false);
                is_end
            }
            Kind::Word(word) => {
                self.has_words = true;
                self.end_seen = self.semicolon_seen && word.eq_ignore_ascii_case("end");
                self.semicolon_seen = false;
                if self.head.len() < 6 {
                    self.head.push(word.to_ascii_uppercase());
                }
                false
            }
            Kind::Other => {
                self.has_words = true;
                (self.semicolon_seen, self.end_seen) = (false, false);
                false
            }
        }
    }

    fn is_trigger(&self) -> bool {
        let mut words = self.head.iter().map(String::as_str).peekable();
        words.next_if_eq(&"EXPLAIN");
        if words.next_if_eq(&"QUERY").is_some() {
            words.next_if_eq(&"PLAN");
        }
        if words.next() != Some("CREATE") {
            return false;
        }
        words.next_if(|word| *word == "TEMP" || *word == "TEMPORARY");
        words.next() == Some("TRIGGER")
    }
}

struct Token<'a> {
    kind: Kind<'a>,
    len_bytes: usize,
}

enum Kind<'a> {
    /// White space or a comment.
    Space,
    Semicolon,
    Word(&'a str),
    /// Quoted text, a number's sign, an operator.
    Other,
}

/// The token at the start of a text that is not empty; unfinished ones go to its end.
fn next_token(text: &str) -> Token<'_> {
    let first = text.chars().next().expect("the text is not empty");
    let through = |closing: &str, from: usize| {
        text[from..].find(closing).map_or(text.len(), |found| from + found + closing.len())
    };
    let (kind, len_bytes) = match first {
        ';' => (Kind::Semicolon, 1),
        '\'' => (Kind::Other, through("'", 1)),
        '"' => (Kind::Other, through("\"", 1)),
        '`' => (Kind::Other, through("`", 1)),
        '[' => (Kind::Other, through("]", 1)),
        '-' if text.starts_with("--") => (Kind::Space, through("\n", 2)),
        '/' if text.starts_with("/*") => (Kind::Space, through("*/", 2)),
        c if c.is_whitespace() => (Kind::Space, c.len_utf8()),
        c if is_word(c) => {
            let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
            (Kind::Word(&text[..end]), end)
        }
        c => (Kind::Other, c.len_utf8()),
    };
    Token { kind, len_bytes }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_sqlite_does() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN \
                       SELECT CASE WHEN 1 THEN 2 END; DELETE FROM a; END;";
        for (text, statements, rest) in [
            ("", vec![], ""),
            (" ;; -- only a comment", vec![], ""),
            ("SELECT 1", vec![], "SELECT 1"),
            ("SELECT 1; SELECT 2;", vec!["SELECT 1;", "SELECT 2;"], ""),
            ("SELECT ';'; x", vec!["SELECT ';';"], "x"),
            ("SELECT 'it''s;'; ", vec!["SELECT 'it''s;';"], ""),
            ("SELECT \";\", [;], `;`;", vec!["SELECT \";\", [;], `;`;"], ""),
            ("SELECT 1 -- ;\n;", vec!["SELECT 1 -- ;\n;"], ""),
            ("SELECT 1 /* ; */;", vec!["SELECT 1 /* ; */;"], ""),
            ("SELECT 'open ;", vec![], "SELECT 'open ;"),
            ("SELECT 1 /* open ;", vec![], "SELECT 1 /* open ;"),
            (trigger, vec![trigger], ""),
            ("CREATE TRIGGER t BEGIN SELECT 1;", vec![], "CREATE TRIGGER t BEGIN SELECT 1;"),
            (
                "CREATE TABLE trigger_t(a); SELECT é;",
                vec!["CREATE TABLE trigger_t(a);", "SELECT é;"],
                "",
            ),
        ] {
            assert_eq!(split(text), Script { statements, rest }, "{text}");
        }
    }

    #[test]
    fn verbs() {
        assert_eq!(verb("-- hi\n insert into t"), "INSERT");
        assert_eq!(verb("/* */"), "");
    }
}
