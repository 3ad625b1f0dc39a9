//! Changing few rows of a block over its bytes: keys, numbers, and the addresses of patterns
//! that no changed row has or had are copied as they are.

use super::*;
use crate::metadata::patterns::Patterns;
use crate::metadata::rows::Slot;

/// The address streams of one pattern.
struct Streams<'a> {
    streams: SmallVec<[Stream<'a>; 2]>,
    bytes: &'a [u8],
    n_rows: usize,
}

/// A row that was changed.
struct Changed {
    row: usize,
    at: SmallVec<[u64; 4]>,
}

/// Which pattern each row had, and has; patterns that are new come after the others.
struct Moved {
    before: [u8; MAX_BLOCK_ROWS],
    after: [u8; MAX_BLOCK_ROWS],
    /// What [`Patterns`] calls the patterns.
    names: SmallVec<[u32; 8]>,
    changed: SmallVec<[Changed; 2]>,
}

impl Parts<'_> {
    /// The last key of a block whose first is `first`.
    pub(crate) fn last_key(&self, first: &[u8]) -> Decoded<Key> {
        let mut key = Key::from_slice(first);
        match &self.keys {
            Keys::Numbers(stream) if self.n_rows > 1 => {
                let base = as_number(first).ok_or(Corrupt("a number key that is not 8 bytes"))?;
                let last = base.checked_add(stream.at(self.n_rows - 2, 0)?);
                let last = last.ok_or(Corrupt("keys out of order"))?;
                Ok(Key::from_slice(&last.to_be_bytes()))
            }
            Keys::Numbers(_) => Ok(key),
            Keys::Others(reader) => {
                let mut reader = *reader;
                for _ in 1..self.n_rows {
                    let (shared, suffix) = read_key(&mut reader, key.len())?;
                    key.truncate(shared);
                    key.extend_from_slice(suffix);
                }
                Ok(key)
            }
        }
    }

    /// Where `n` ascending keys stand, and for those that are no numbers how much they share
    /// with their neighbours; `None`: one of them is not there.
    pub(crate) fn find_all<'k>(
        &self,
        first: &[u8],
        n: usize,
        wanted: impl Fn(usize) -> &'k [u8],
    ) -> Decoded<Option<Vec<(usize, usize)>>> {
        let mut found = Vec::with_capacity(n);
        let Keys::Others(reader) = &self.keys else {
            for i in 0..n {
                let Some(row) = find_key(first, self, wanted(i))? else { return Ok(None) };
                found.push((row, 0));
            }
            return Ok(Some(found));
        };
        let (mut reader, mut key) = (*reader, Key::from_slice(first));
        for row in 0..self.n_rows {
            let mut common = 0;
            if row > 0 {
                let (shared, suffix) = read_key(&mut reader, key.len())?;
                common = shared;
                key.truncate(shared);
                key.extend_from_slice(suffix);
                if let Some((_, most)) = found.last_mut().filter(|last| last.0 + 1 == row) {
                    *most = common.max(*most);
                }
            }
            if found.len() == n {
                break;
            }
            match compare(&key, wanted(found.len())) {
                Ordering::Less => {}
                Ordering::Equal => found.push((row, common)),
                Ordering::Greater => return Ok(None),
            }
        }
        Ok((found.len() == n).then_some(found))
    }

    fn streams(&self, counts: &[usize]) -> Decoded<SmallVec<[Streams<'_>; 4]>> {
        let mut rest = self.rest;
        let mut all = SmallVec::new();
        for (pattern, n_rows) in self.patterns.iter().zip(counts) {
            let start = rest.rest();
            let mut streams = SmallVec::new();
            for _ in &pattern.groups {
                streams.push(Stream::read(&mut rest, *n_rows)?);
            }
            let bytes = &start[..start.len() - rest.len()];
            all.push(Streams { streams, bytes, n_rows: *n_rows });
        }
        rest.end()?;
        Ok(all)
    }
}

impl Encoder {
    /// Changes the rows `rows`, ascending, of a block with `apply`, which is told the how
    /// manieth it is, and writes the block's new bytes into `out`.
    pub(crate) fn edit(
        &mut self,
        parts: &Parts<'_>,
        rows: &[(usize, usize)],
        patterns: &mut Patterns,
        slot: &mut Slot,
        mut apply: impl FnMut(usize, &mut Slot, &mut Patterns),
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        let n_rows = parts.n_rows;
        let mut numbers = [0; MAX_BLOCK_ROWS];
        parts.numbers.each(n_rows, |_| 0, |i, number| numbers[i] = number)?;
        let before = parts.all_places()?;
        let names = parts.patterns.iter().map(|pattern| patterns.intern(pattern)).collect();
        let mut moved = Moved { before, after: before, names, changed: SmallVec::new() };
        let mut counts: SmallVec<[usize; 8]> = SmallVec::from_elem(0, parts.patterns.len());
        before[..n_rows].iter().for_each(|place| counts[usize::from(*place)] += 1);
        let streams = parts.streams(&counts)?;
        let mut is_renumbered = false;
        for (i, (row, _)) in rows.iter().enumerate() {
            let place = before[*row];
            let rank = before[..*row].iter().filter(|other| **other == place).count();
            slot.place = moved.names[usize::from(place)];
            slot.number = numbers[*row];
            slot.at.clear();
            for stream in &streams[usize::from(place)].streams {
                slot.at.push(stream.at(rank, slot.number)?);
            }
            apply(i, slot, patterns);
            is_renumbered |= slot.number != numbers[*row];
            numbers[*row] = slot.number;
            moved.set(*row, slot);
        }
        out.clear();
        out.extend_from_slice(parts.key_bytes);
        let used = moved.put_patterns(n_rows, patterns, out);
        match is_renumbered {
            true => put_stream(out, &numbers[..n_rows], None),
            false => out.extend_from_slice(parts.number_bytes),
        }
        for place in used {
            let n_groups = patterns.n_groups(moved.names[usize::from(place)]);
            match streams.get(usize::from(place)) {
                // Numbers beside addresses stay beside them when a row goes.
                Some(streams)
                    if !moved.comes(place) && (!moved.goes(place) || streams.are_beside()) =>
                {
                    out.extend_from_slice(streams.bytes);
                }
                old => self.put_moved(old, &moved, place, n_groups, &numbers[..n_rows], out)?,
            }
        }
        Ok(())
    }

    /// Puts the addresses of a pattern that rows left or came to.
    fn put_moved(
        &mut self,
        old: Option<&Streams<'_>>,
        moved: &Moved,
        place: u8,
        n_groups: usize,
        numbers: &[u64],
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        // The rows that had the pattern, and where among them each row that changed comes.
        let had: SmallVec<[u8; MAX_BLOCK_ROWS]> = rows_of(&moved.before[..numbers.len()], place);
        let number = |row: &u8| numbers[usize::from(*row)];
        let mut former = SmallVec::<[u64; MAX_BLOCK_ROWS]>::new();
        self.beside.clear();
        self.beside.extend(had.iter().map(number));
        moved.change(&had, place, &mut self.beside, |changed| numbers[changed.row]);
        for group in 0..n_groups {
            former.clear();
            if let Some(old) = old {
                let beside = |i: usize| number(&had[i]);
                old.streams[group].each(old.n_rows, beside, |_, value| former.push(value))?;
            }
            self.values.clear();
            self.values.extend_from_slice(&former);
            moved.change(&had, place, &mut self.values, |changed| changed.at[group]);
            put_stream(out, &self.values, Some(&self.beside));
        }
        Ok(())
    }
}

/// The rows that have a pattern.
fn rows_of(places: &[u8], place: u8) -> SmallVec<[u8; MAX_BLOCK_ROWS]> {
    let rows = places.iter().zip(0u8..).filter(|(other, _)| **other == place);
    rows.map(|(_, row)| row).collect()
}

impl Streams<'_> {
    fn are_beside(&self) -> bool {
        self.streams.iter().all(|stream| matches!(stream, Stream::Beside { .. }))
    }
}

impl Moved {
    /// Gives a row what was made of it.
    fn set(&mut self, row: usize, slot: &Slot) {
        let known = self.names.iter().position(|name| *name == slot.place);
        let place = known.unwrap_or_else(|| {
            self.names.push(slot.place);
            self.names.len() - 1
        });
        self.after[row] = place as u8;
        self.changed.push(Changed { row, at: SmallVec::from_slice(&slot.at) });
    }

    /// Makes of what the rows that had a pattern had what those have that have it, of which those
    /// that changed have what `now` says.
    fn change(&self, had: &[u8], place: u8, values: &mut Vec<u64>, now: impl Fn(&Changed) -> u64) {
        debug_assert_eq!(had.len(), values.len());
        // From the last on, so that what is inserted or removed moves none that is to come.
        for changed in self.changed.iter().rev() {
            let at = had.partition_point(|row| usize::from(*row) < changed.row);
            let had_it = self.before[changed.row] == place;
            match (had_it, self.after[changed.row] == place) {
                (true, true) => values[at] = now(changed),
                (true, false) => {
                    values.remove(at);
                }
                (false, true) => values.insert(at, now(changed)),
                (false, false) => {}
            }
        }
    }

    /// Whether a changed row has the pattern.
    fn comes(&self, place: u8) -> bool {
        self.changed.iter().any(|changed| self.after[changed.row] == place)
    }

    /// Whether a changed row had the pattern.
    fn goes(&self, place: u8) -> bool {
        self.changed.iter().any(|changed| self.before[changed.row] == place)
    }

    /// Puts the patterns that rows have, and which row has which; returns the patterns.
    fn put_patterns(
        &self,
        n_rows: usize,
        patterns: &Patterns,
        out: &mut Vec<u8>,
    ) -> SmallVec<[u8; 8]> {
        let mut is_used = [false; 2 * MAX_BLOCK_ROWS];
        self.after[..n_rows].iter().for_each(|place| is_used[usize::from(*place)] = true);
        let used = (0..self.names.len() as u8).filter(|place| is_used[usize::from(*place)]);
        let used: SmallVec<[u8; 8]> = used.collect();
        put(out, used.len() as u64);
        let mut new_places = [0; 2 * MAX_BLOCK_ROWS];
        for (new, place) in used.iter().enumerate() {
            put_pattern(out, patterns.get(self.names[usize::from(*place)]));
            new_places[usize::from(*place)] = new as u8;
        }
        if used.len() > 1 {
            let mut places = self.after;
            let places = &mut places[..n_rows];
            places.iter_mut().for_each(|place| *place = new_places[usize::from(*place)]);
            put_places(out, places, used.len());
        }
        used
    }
}
