//! Which right each frame needs: the table of `docs/protocol.md`, as data.
//!
//! Deny by default: an action that the table does not name in a direction is refused, and an
//! unknown word in a token gives nothing. Relays check it on every frame in both directions;
//! a session of whoever holds the token checks it before it sends.

/// One word of a token's `scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To be sent what the store holds.
    Read,
    /// To deliver changes and blobs; implies [`Scope::Read`] and [`Scope::Presence`].
    Write,
    /// To see and show who is here.
    Presence,
    /// To speak for a disk of its own and for others; implies all.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Presence, Scope::Admin];

    /// The word in a token.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Presence => "presence",
            Scope::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Scope::Read => 1,
            Scope::Write => 2,
            Scope::Presence => 4,
            Scope::Admin => 8,
        }
    }

    /// This scope and those that it implies, as bits.
    fn with_implied(self) -> u8 {
        match self {
            Scope::Read | Scope::Presence => self.bit(),
            Scope::Write => self.bit() | Scope::Read.bit() | Scope::Presence.bit(),
            Scope::Admin => 0b1111,
        }
    }
}

/// What a token allows, implied scopes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Nothing but to be here.
    pub const NONE: Scopes = Scopes(0);
    /// Everything.
    pub const ALL: Scopes = Scopes(0b1111);

    /// The scopes that `words` name; words that are not known give nothing.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Scopes {
        let scope = |word: &str| Scope::ALL.into_iter().find(|scope| scope.word() == word);
        let bits = words.into_iter().filter_map(scope).map(Scope::with_implied);
        Scopes(bits.fold(0, |all, one| all | one))
    }

    /// As frames carry them: 1 read, 2 write, 4 presence, 8 admin.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Reads [`Scopes::bits`]; `None` for other bits and where implied ones are missing.
    pub fn from_bits(bits: u8) -> Option<Scopes> {
        let scopes = Scopes(bits);
        let held = Scope::ALL.into_iter().filter(|scope| scopes.has(*scope));
        let closed = held.fold(0, |all, scope| all | scope.with_implied());
        (closed == bits).then_some(scopes)
    }

    /// Whether `scope` is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether they allow `action` in `direction`.
    pub fn allow(self, action: Action, direction: Direction) -> bool {
        match required(action, direction) {
            None => false,
            Some(Need::AnyToken) => true,
            Some(Need::Scope(scope)) => self.has(scope),
        }
    }
}

/// What a frame does, as far as rights are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hello with role peer.
    Hello,
    /// Hello with role relay: to answer for a disk.
    HelloAsRelay,
    /// Have.
    Have,
    /// Error.
    Error,
    /// Ack.
    Ack,
    /// Chains.
    Chains,
    /// Delta.
    Delta,
    /// BlobWant.
    BlobWant,
    /// BlobChunk.
    BlobChunk,
    /// Presence.
    Presence,
    /// Receipts, asking.
    AskReceipts,
    /// Receipts, telling.
    TellReceipts,
    /// Resume.
    Resume,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 13] = [
        Action::Hello,
        Action::HelloAsRelay,
        Action::Have,
        Action::Error,
        Action::Ack,
        Action::Chains,
        Action::Delta,
        Action::BlobWant,
        Action::BlobChunk,
        Action::Presence,
        Action::AskReceipts,
        Action::TellReceipts,
        Action::Resume,
    ];

    /// The name that errors and `docs/protocol.md` use.
    pub fn name(self) -> &'static str {
        match self {
            Action::Hello => "Hello",
            Action::HelloAsRelay => "Hello as relay",
            Action::Have => "Have",
            Action::Error => "Error",
            Action::Ack => "Ack",
            Action::Chains => "Chains",
            Action::Delta => "Delta",
            Action::BlobWant => "BlobWant",
            Action::BlobChunk => "BlobChunk",
            Action::Presence => "Presence",
            Action::AskReceipts => "Receipts, asking",
            Action::TellReceipts => "Receipts, telling",
            Action::Resume => "Resume",
        }
    }
}

/// Which way a frame goes, seen from who holds the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Sent by who holds the token.
    FromHolder,
    /// Sent to who holds the token.
    ToHolder,
}

/// What a frame needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any valid token.
    AnyToken,
    /// A token with this scope.
    Scope(Scope),
}

use Action as A;
use Direction::{FromHolder, ToHolder};

/// The table; what is not in it is refused.
pub const TABLE: &[(Action, Direction, Need)] = &[
    (A::Hello, FromHolder, Need::AnyToken),
    (A::Hello, ToHolder, Need::AnyToken),
    (A::HelloAsRelay, FromHolder, Need::Scope(Scope::Admin)),
    (A::HelloAsRelay, ToHolder, Need::AnyToken),
    (A::Have, FromHolder, Need::AnyToken),
    (A::Have, ToHolder, Need::AnyToken),
    (A::Error, FromHolder, Need::AnyToken),
    (A::Error, ToHolder, Need::AnyToken),
    (A::Ack, FromHolder, Need::Scope(Scope::Read)),
    (A::Ack, ToHolder, Need::Scope(Scope::Read)),
    (A::Chains, FromHolder, Need::Scope(Scope::Read)),
    (A::Chains, ToHolder, Need::Scope(Scope::Read)),
    (A::Delta, FromHolder, Need::Scope(Scope::Write)),
    (A::Delta, ToHolder, Need::Scope(Scope::Read)),
    (A::BlobWant, FromHolder, Need::Scope(Scope::Read)),
    (A::BlobWant, ToHolder, Need::Scope(Scope::Write)),
    (A::BlobChunk, FromHolder, Need::Scope(Scope::Write)),
    (A::BlobChunk, ToHolder, Need::Scope(Scope::Read)),
    (A::Presence, FromHolder, Need::Scope(Scope::Presence)),
    (A::Presence, ToHolder, Need::Scope(Scope::Presence)),
    (A::AskReceipts, FromHolder, Need::Scope(Scope::Read)),
    (A::AskReceipts, ToHolder, Need::Scope(Scope::Admin)),
    (A::TellReceipts, FromHolder, Need::Scope(Scope::Admin)),
    (A::TellReceipts, ToHolder, Need::Scope(Scope::Read)),
    (A::Resume, FromHolder, Need::Scope(Scope::Admin)),
    (A::Resume, ToHolder, Need::Scope(Scope::Read)),
];

/// What `action` needs in `direction`; `None`: nothing allows it.
pub fn required(action: Action, direction: Direction) -> Option<Need> {
    let is_it = |row: &&(Action, Direction, Need)| (row.0, row.1) == (action, direction);
    TABLE.iter().find(is_it).map(|row| row.2)
}
