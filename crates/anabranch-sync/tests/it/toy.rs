//! A store in memory: for each site the salts of its changes. Its deltas have true heads and
//! small parts of our own making, which is all that a session looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::forest;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_core::wire::{Seal, seal};
use anabranch_sync::frame::{Delta, DeltaName, ErrorCode, Partial, Retry};
use anabranch_sync::{Refusal, StoreEvent};

/// xorshift64* (Vigna 2016): a seed is a story.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            rng.next();
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    /// Once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..self.below(max + 1)).map(|_| self.next() as u8).collect()
    }
}

pub(crate) fn site(byte: u8) -> SiteId {
    SiteId::new(&[byte; 16]).unwrap()
}

type Salts = BTreeMap<SiteId, Vec<u64>>;

#[derive(Clone, Default)]
pub(crate) struct Toy {
    pub(crate) byte: u8,
    /// What is committed.
    salts: Salts,
    /// What a crash leaves.
    durable: Salts,
    /// Parts that came, in order.
    staged: BTreeMap<DeltaName, Vec<Delta>>,
    /// Deltas that are being sent.
    kept: BTreeMap<DeltaName, Vec<Delta>>,
    /// Bytes of a part's content.
    pub(crate) part_bytes: usize,
    /// Bytes that stand for each change beside its salt.
    pub(crate) change_bytes: usize,
    /// The delta refused next, and why.
    pub(crate) refusal: Option<Refusal>,
}

impl Toy {
    pub(crate) fn new(byte: u8) -> Toy {
        Toy { byte, part_bytes: 300, ..Toy::default() }
    }

    pub(crate) fn site(&self) -> SiteId {
        site(self.byte)
    }

    /// A change of this site, committed.
    pub(crate) fn write(&mut self, salt: u64) {
        let site = self.site();
        self.write_as(site, salt);
    }

    pub(crate) fn write_as(&mut self, site: SiteId, salt: u64) {
        self.salts.entry(site).or_default().push(salt);
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.salts.clone();
    }

    pub(crate) fn crash(&mut self) {
        self.salts = self.durable.clone();
        self.kept.clear();
    }

    pub(crate) fn vector(&self) -> VersionVector {
        vector_of(&self.salts)
    }

    /// What is on disk.
    pub(crate) fn durable(&self) -> VersionVector {
        vector_of(&self.durable)
    }

    pub(crate) fn chain(&self, site: SiteId, version: u64) -> Option<Chain> {
        chain_of(&self.salts, site, version)
    }

    /// A peer's vector as it is called here.
    pub(crate) fn read(&self, theirs: &VersionVector) -> StoreEvent {
        let read = forest::read::<std::convert::Infallible>(
            &self.vector(),
            theirs,
            &mut |site, version| Ok(self.chain(site, version)),
        );
        StoreEvent::Read(read.unwrap())
    }

    pub(crate) fn partials(&self) -> Vec<Partial> {
        let partial = |(delta, parts): (&DeltaName, &Vec<Delta>)| {
            let of = parts.first().map_or(1, Delta::of);
            Partial { delta: *delta, of, next: parts.len() as u32 }
        };
        self.staged.iter().map(partial).filter(|partial| partial.next < partial.of).collect()
    }

    /// The cut above `above` of what is on disk.
    pub(crate) fn cut(&self, above: &VersionVector) -> Option<(Vec<Delta>, Cut)> {
        let to = self.durable();
        let mut from = VersionVector::new();
        let mut changes = Vec::new();
        for (site, salts) in &self.durable {
            let low = above.version(*site).min(salts.len() as u64);
            if let Some(chain) = chain_of(&self.durable, *site, low) {
                from.set(*site, Held { version: low, chain });
            }
            let new = (low + 1..).zip(&salts[low as usize..]);
            changes.extend(new.map(|(version, salt)| (*site, version, *salt)));
        }
        if changes.is_empty() {
            return None;
        }
        let cut = Cut { from, to, changes };
        Some((parts(&cut.to_bytes(self.change_bytes), self.part_bytes), cut))
    }

    pub(crate) fn export(&mut self, above: &VersionVector, partial: Option<Partial>) -> StoreEvent {
        if let Some(partial) = partial
            && let Some(parts) = self.kept.get(&partial.delta)
        {
            let to = Arc::new(Cut::of(parts).unwrap().to);
            return StoreEvent::Exported { part: parts[partial.next as usize].clone(), to };
        }
        let Some((parts, cut)) = self.cut(above) else { return StoreEvent::NothingAbove };
        let part = parts[0].clone();
        if parts.len() > 1 {
            self.kept.insert(part.name(), parts);
        }
        StoreEvent::Exported { part, to: Arc::new(cut.to) }
    }

    pub(crate) fn part(&self, delta: DeltaName, number: u32) -> StoreEvent {
        match self.kept.get(&delta).and_then(|parts| parts.get(number as usize)) {
            Some(part) => StoreEvent::Part(part.clone()),
            None => StoreEvent::ExportFailed(Refusal::new(
                ErrorCode::Busy,
                Retry::AfterMs(5),
                "not kept any more",
            )),
        }
    }

    pub(crate) fn forget(&mut self, delta: DeltaName) {
        self.kept.remove(&delta);
    }

    pub(crate) fn n_kept(&self) -> usize {
        self.kept.len()
    }

    /// Takes a part; the event, and whether a delta was applied.
    pub(crate) fn take(&mut self, part: Delta) -> StoreEvent {
        let delta = part.name();
        let parts = self.staged.entry(delta).or_default();
        if part.number() as usize == parts.len() {
            parts.push(part.clone());
        }
        if parts.len() < part.of() as usize {
            return StoreEvent::Staged { delta };
        }
        let parts = self.staged.remove(&delta).unwrap();
        if let Some(refusal) = self.refusal.take() {
            return StoreEvent::Refused { delta, refusal };
        }
        let refused =
            |code, retry| StoreEvent::Refused { delta, refusal: Refusal::new(code, retry, "toy") };
        let Some(cut) = Cut::of(&parts) else {
            return refused(ErrorCode::Damaged, Retry::AfterMs(0));
        };
        if !cut.from.is_at_or_below(&self.vector()) {
            return refused(ErrorCode::Missing, Retry::AfterMs(0));
        }
        let is_known = |(site, held): (SiteId, Held)| {
            self.chain(site, held.version).is_none_or(|chain| chain == held.chain)
        };
        if !cut.from.iter().all(is_known) {
            return refused(ErrorCode::SiteReused, Retry::Never);
        }
        for (site, version, salt) in cut.changes {
            let salts = self.salts.entry(site).or_default();
            match salts.get(version as usize - 1) {
                Some(known) if *known != salt => {
                    return refused(ErrorCode::SiteReused, Retry::Never);
                }
                Some(_) => {}
                None => salts.push(salt),
            }
        }
        StoreEvent::Applied { delta, to: Arc::new(cut.to), held: Vec::new() }
    }
}

fn vector_of(salts: &Salts) -> VersionVector {
    let mut vector = VersionVector::new();
    for (site, of) in salts {
        let version = of.len() as u64;
        if let Some(chain) = chain_of(salts, *site, version) {
            vector.set(*site, Held { version, chain });
        }
    }
    vector
}

fn chain_of(salts: &Salts, site: SiteId, version: u64) -> Option<Chain> {
    let of = salts.get(&site)?.get(..version as usize)?;
    let next = |chain: Chain, (version, salt): (u64, &u64)| chain.next(site, version, *salt);
    Some((1..).zip(of).fold(Chain::default(), next))
}

/// What a toy's delta says.
pub(crate) struct Cut {
    pub(crate) from: VersionVector,
    pub(crate) to: VersionVector,
    pub(crate) changes: Vec<(SiteId, u64, u64)>,
}

impl Cut {
    fn to_bytes(&self, change_bytes: usize) -> Vec<u8> {
        let mut text = format!("{}\n{}", self.from.to_json(), self.to.to_json());
        for (site, version, salt) in &self.changes {
            text += &format!("\n{site} {version} {salt} {}", "x".repeat(change_bytes));
        }
        text.into_bytes()
    }

    /// Reads whole deltas only; `None` if the parts are not those of one.
    fn of(parts: &[Delta]) -> Option<Cut> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.part()[64..].to_vec()).collect();
        let text = String::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        let from = VersionVector::from_json(lines.next()?).ok()?;
        let to = VersionVector::from_json(lines.next()?).ok()?;
        let change = |line: &str| {
            let mut words = line.split(' ');
            let hex = words.next()?;
            let bytes = (0..hex.len()).step_by(2);
            let bytes: Option<Vec<u8>> =
                bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
            let site = SiteId::new(&bytes?)?;
            Some((site, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        let changes = lines.map(change).collect::<Option<_>>()?;
        Some(Cut { from, to, changes })
    }
}

/// Cuts content into parts with true heads (`docs/format.md`, 4).
pub(crate) fn parts(content: &[u8], part_bytes: usize) -> Vec<Delta> {
    let chunks: Vec<&[u8]> = content.chunks(part_bytes).collect();
    let sum = |bytes: &[u8]| blake3::hash(bytes).as_bytes()[..16].to_vec();
    let mut name = blake3::Hasher::new();
    for chunk in &chunks {
        name.update(&sum(chunk));
    }
    let mut delta = [0; 16];
    delta.copy_from_slice(&name.finalize().as_bytes()[..16]);
    let of = chunks.len() as u32;
    let make = |(number, chunk): (u32, &&[u8])| {
        let mut part = b"anaD\x01\0\0\0".to_vec();
        part.resize(24, 0);
        part.extend(number.to_le_bytes());
        part.extend([0; 4]);
        part.extend((chunk.len() as u32).to_le_bytes());
        part.extend((chunk.len() as u32).to_le_bytes());
        part.extend(sum(chunk));
        part.resize(64, 0);
        seal(&mut part, &Seal { delta, of });
        part.extend_from_slice(chunk);
        Delta::new(part.into()).unwrap()
    };
    (0..).zip(&chunks).map(make).collect()
}
