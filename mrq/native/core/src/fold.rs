//! Folding by key: one int a key, in the order in which keys came first.

use crate::column::Cell;
use crate::deal::Deal;
use crate::frame::{Frame, Frames};
use crate::item::{put_int, Item};
use crate::slots::{hash, Slots};
use crate::{append, key, NoMemory};

/// How two ints of one key become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Add,
    Least,
    Greatest,
}

struct Entry {
    hash: u64,
    /// Of its bytes in the arena: the canonical ones, and those of its item where that needs them.
    at: usize,
    canonical: u32,
    behind: u32,
    state: i64,
}

/// What became of a pair.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    Held,
    /// A sum that 64 bits don't hold; nothing is changed.
    TooLarge,
    /// More keys, or longer ones, than a table is for; nothing is changed.
    Full,
}

/// What an entry takes beside its bytes: itself, its slots while the table grows, its place while it is dealt out.
const ENTRY_COST: usize = 40 + 40 + 16;
/// Positions are 32 bits.
const ENTRIES_MAX: usize = u32::MAX as usize - 1;

/// States by key.
pub struct Table {
    how: How,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    slots: Slots,
    /// Entries by partition, once they are dealt out.
    dealt: Vec<Vec<u32>>,
}

impl Table {
    pub fn new(how: How) -> Self {
        Self { how, arena: Vec::new(), entries: Vec::new(), slots: Slots::default(), dealt: Vec::new() }
    }

    /// Bytes that are held, about.
    pub fn held(&self) -> usize {
        self.arena.len() + self.entries.len() * ENTRY_COST
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Fold a value into the state of a key: its canonical bytes, and its item where they don't tell it.
    #[inline]
    pub fn put(&mut self, canonical: &[u8], behind: &[u8], value: i64) -> Result<Put, NoMemory> {
        let hash = hash(canonical);
        let (arena, entries) = (&self.arena, &self.entries);
        self.slots.reserve(entries.iter().map(|entry| entry.hash))?;
        let found = self.slots.find(hash, |position| {
            let entry = &entries[position];
            entry.canonical as usize == canonical.len()
                && &arena[entry.at..entry.at + canonical.len()] == canonical
        });
        match found {
            Ok(position) => {
                let state = &mut self.entries[position].state;
                *state = match self.how {
                    How::Least => value.min(*state),
                    How::Greatest => value.max(*state),
                    How::Add => match state.checked_add(value) {
                        Some(sum) => sum,
                        None => return Ok(Put::TooLarge),
                    },
                };
            }
            Err(place) => {
                let sizes = (u32::try_from(canonical.len()), u32::try_from(behind.len()));
                let ((Ok(canonical_size), Ok(behind_size)), true) = (sizes, entries.len() < ENTRIES_MAX)
                else {
                    return Ok(Put::Full);
                };
                let at = self.arena.len();
                self.entries.try_reserve(1).map_err(|_| NoMemory)?;
                self.arena.try_reserve(canonical.len() + behind.len()).map_err(|_| NoMemory)?;
                append(&mut self.arena, canonical)?;
                append(&mut self.arena, behind)?;
                self.slots.put(place, hash, self.entries.len());
                self.entries.push(Entry {
                    hash,
                    at,
                    canonical: canonical_size,
                    behind: behind_size,
                    state: value,
                });
            }
        }
        Ok(Put::Held)
    }

    /// The key at a position, as it came first.
    pub fn key(&self, position: usize) -> Item<'_> {
        self.cell(position).item
    }

    fn cell(&self, position: usize) -> Cell<'_> {
        let entry = &self.entries[position];
        let middle = entry.at + entry.canonical as usize;
        let packed = &self.arena[middle..middle + entry.behind as usize];
        Cell { item: key::shown(&self.arena[entry.at..middle], packed), packed }
    }

    /// Deal the keys out to so many partitions.
    pub fn deal(&mut self, partitions: usize, deal: &Deal) {
        let mut dealt = vec![Vec::new(); partitions];
        for (position, entry) in self.entries.iter().enumerate() {
            let canonical = &self.arena[entry.at..entry.at + entry.canonical as usize];
            dealt[deal.partition(canonical, self.key(position))].push(position as u32);
        }
        self.dealt = dealt;
    }

    /// The frames of a partition, once keys are dealt out. Where most of its states are 1, and are sums, those are in
    /// frames apart: a reduce lists them, and needs no table.
    pub fn frames(&self, partition: usize) -> Vec<Frame> {
        let mine = &self.dealt[partition];
        let singles = mine.iter().filter(|&&at| self.entries[at as usize].state == 1).count();
        let apart = self.how == How::Add && 2 * singles > mine.len();
        let mut packed = Vec::new();
        let mut ends = Vec::with_capacity(mine.len());
        for &at in mine {
            put_int(&mut packed, self.entries[at as usize].state);
            ends.push(packed.len());
        }
        let mut frames = Frames::new();
        let mut add = |single: Option<bool>| {
            let mut begin = 0;
            for (&at, &end) in mine.iter().zip(&ends) {
                let state = self.entries[at as usize].state;
                if single.is_none_or(|wanted| wanted == (state == 1)) {
                    let value = Cell { item: Item::Int(state), packed: &packed[begin..end] };
                    frames.add(self.cell(at as usize), value);
                }
                begin = end;
            }
            frames.cut();
        };
        if apart {
            add(Some(true));
            add(Some(false));
        } else {
            add(None);
        }
        frames.finish()
    }

    /// Hold nothing.
    pub fn clear(&mut self) {
        *self = Self::new(self.how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::put_float;

    fn put(table: &mut Table, key: Item<'_>, value: i64) -> Put {
        let mut canonical = Vec::new();
        assert!(key::put_canonical(&mut canonical, key));
        let mut behind = Vec::new();
        match key {
            Item::Int(value) => put_int(&mut behind, value),
            Item::Float(value) => put_float(&mut behind, value),
            _ => (),
        }
        table.put(&canonical, &behind, value).unwrap()
    }

    #[test]
    fn states_fold_and_the_first_form_of_a_key_stays() {
        let mut table = Table::new(How::Add);
        put(&mut table, Item::Float(1.0), 2);
        put(&mut table, Item::Int(1), 3);
        put(&mut table, Item::Text(b"w"), 1);
        table.deal(1, &Deal::Hash(1));
        assert_eq!((table.len(), table.key(0), table.key(1)), (2, Item::Float(1.0), Item::Text(b"w")));
        let frames = table.frames(0);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].payload[8..], *b"m\x92\xcb\x3f\xf0\0\0\0\0\0\0\xa1wm\x92\x05\x01");
    }

    #[test]
    fn a_sum_beyond_64_bits_is_told_and_changes_nothing() {
        let mut table = Table::new(How::Add);
        put(&mut table, Item::None, i64::MAX);
        assert_eq!(put(&mut table, Item::None, 1), Put::TooLarge);
        assert_eq!(put(&mut table, Item::None, -1), Put::Held);
    }

    #[test]
    fn least_and_greatest() {
        for (how, wanted) in [(How::Least, 0xfd), (How::Greatest, 0x05)] {
            let mut table = Table::new(how);
            for value in [2, -3, 5] {
                put(&mut table, Item::Bytes(b"k"), value);
            }
            table.deal(1, &Deal::Hash(1));
            assert_eq!(table.frames(0)[0].payload[8..], [b"m\x91\xc4\x01km\x91".as_slice(), &[wanted]].concat());
        }
    }

    #[test]
    fn ones_are_in_frames_apart_where_most_are() {
        let mut table = Table::new(How::Add);
        for (word, count) in [(b"a", 1), (b"b", 2), (b"c", 1)] {
            put(&mut table, Item::Text(word), count);
        }
        table.deal(1, &Deal::Hash(1));
        let payloads: Vec<Vec<u8>> = table.frames(0).into_iter().map(|frame| frame.payload).collect();
        assert_eq!(payloads[0][8..], *b"sa\0cc\x02\0\0\0\x01");
        assert_eq!(payloads[1][8..], *b"sbm\x91\x02");
    }
}
