//! Changing all rows of a block by operations that are alike, over its bytes: keys, numbers
//! and which row has which pattern are copied as they are, and so are the addresses that stay.
//! What is worked out is one pattern for each there was, and where the operations stand.

use super::*;
use crate::metadata::local::Outcome;
use crate::metadata::patterns::{Made, Op, Patterns};

/// The rows of one pattern, and what becomes of them.
struct Alike<'a> {
    made: Made,
    /// The address streams of the former groups, and their bytes.
    streams: SmallVec<[(Stream<'a>, &'a [u8]); 2]>,
}

impl Parts<'_> {
    /// Whether the rows are just those of `n` ascending keys, and for keys that are no numbers
    /// how much each shares with its neighbours.
    pub(crate) fn are_all<'k>(
        &self,
        first: &[u8],
        n: usize,
        wanted: impl Fn(usize) -> &'k [u8],
    ) -> Decoded<Option<Vec<(usize, usize)>>> {
        if n != self.n_rows {
            return Ok(None);
        }
        let Keys::Numbers(stream) = &self.keys else { return self.find_all(first, n, wanted) };
        let Some(base) = as_number(first) else { return Ok(None) };
        let mut are_all = as_number(wanted(0)) == Some(base);
        let is_at = |i: usize, beyond: u64| {
            as_number(wanted(i)).is_some_and(|key| key.wrapping_sub(base) == beyond)
        };
        let last = if n > 1 { stream.at(n - 2, 0)? } else { 0 };
        if last == n as u64 - 1 {
            // As many as there are numbers from the first to the last.
            are_all &= is_at(n - 1, last);
        } else {
            stream.each(n - 1, |_| 0, |i, beyond| are_all &= is_at(i + 1, beyond))?;
        }
        Ok(are_all.then(Vec::new))
    }

    fn alike(
        &self,
        patterns: &mut Patterns,
        op: &Op<'_>,
        members: &Members,
    ) -> Decoded<Option<SmallVec<[Alike<'_>; 4]>>> {
        let mut rest = self.rest;
        let mut all: SmallVec<[Alike<'_>; 4]> = SmallVec::new();
        for (name, pattern) in self.patterns.iter().enumerate() {
            let place = patterns.intern(pattern);
            let made = patterns.made(place, op);
            let is_met = all.iter().any(|other| other.made.place == made.place);
            if is_met || patterns.is_out_of_bounds(made.place) {
                return Ok(None);
            }
            let mut streams = SmallVec::new();
            for _ in &pattern.groups {
                let start = rest.rest();
                let stream = Stream::read(&mut rest, members.of(name).len())?;
                streams.push((stream, &start[..start.len() - rest.len()]));
            }
            all.push(Alike { made, streams });
        }
        rest.end()?;
        Ok(Some(all))
    }
}

impl Encoder {
    /// Changes all rows of a block by `op`, whose address is `at[i]` for the i-th row, and
    /// writes the block's new bytes into `out`. What came of each; `None`: the rows do not change
    /// so evenly, and nothing was done.
    pub(crate) fn edit_all(
        &mut self,
        parts: &Parts<'_>,
        patterns: &mut Patterns,
        op: &Op<'_>,
        at: &[u64],
        out: &mut Vec<u8>,
    ) -> Decoded<Option<Vec<Outcome>>> {
        let n_rows = parts.n_rows;
        let places = parts.all_places()?;
        let mut members = std::mem::take(&mut self.members);
        members.sort(&places[..n_rows], parts.patterns.len());
        let all = parts.alike(patterns, op, &members);
        self.members = members;
        let Some(all) = all? else { return Ok(None) };
        let mut numbers = [0; MAX_BLOCK_ROWS];
        parts.numbers.each(n_rows, |_| 0, |i, number| numbers[i] = number)?;
        out.clear();
        out.extend_from_slice(parts.key_bytes);
        put(out, all.len() as u64);
        all.iter().for_each(|alike| put_pattern(out, patterns.get(alike.made.place)));
        out.extend_from_slice(parts.place_bytes);
        out.extend_from_slice(parts.number_bytes);
        for (name, alike) in all.iter().enumerate() {
            if !self.put_alike(name, alike, &numbers, at, out)? {
                return Ok(None);
            }
        }
        let outcome = |place: &u8| all[usize::from(*place)].made.outcome;
        Ok(Some(places[..n_rows].iter().map(outcome).collect()))
    }

    /// Puts the addresses of the rows that had one pattern; `false`: they do not ascend.
    fn put_alike(
        &mut self,
        name: usize,
        alike: &Alike<'_>,
        numbers: &[u64],
        at: &[u64],
        out: &mut Vec<u8>,
    ) -> Decoded<bool> {
        let members = self.members.of(name);
        self.beside.clear();
        self.beside.extend(members.iter().map(|row| numbers[usize::from(*row)]));
        self.values.clear();
        self.values.extend(members.iter().map(|row| at[usize::from(*row)]));
        self.former.clear();
        for (stream, _) in &alike.streams {
            let beside = |i: usize| self.beside[i];
            stream.each(members.len(), beside, |_, value| self.former.push(value))?;
        }
        let later = self.former.iter().skip(members.len()).chain(&self.values);
        if !self.former.iter().zip(later).all(|(former, later)| former < later) {
            return Ok(false);
        }
        for from in &alike.made.from {
            match from {
                Some(group) => out.extend_from_slice(alike.streams[*group].1),
                None => put_stream(out, &self.values, Some(&self.beside)),
            }
        }
        Ok(true)
    }
}
