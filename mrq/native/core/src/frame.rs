//! Frames: the payloads of blocks, cut as `mrq/shuffle/block.py` wants them. Headers are written there.

use crate::column::{put_column, Cell};
use crate::cost;

/// At most so many records are in a frame.
const RECORDS: usize = 4096;
/// A frame costs no more, unless it is a single record.
const COST: u64 = 1 << 20;

/// A block, encoded.
pub struct Frame {
    pub payload: Vec<u8>,
    pub records: usize,
    pub cost: u64,
}

/// Gathers records, and cuts them into frames.
#[derive(Default)]
pub struct Frames<'a> {
    keys: Vec<Cell<'a>>,
    values: Vec<Cell<'a>>,
    cost: u64,
    done: Vec<Frame>,
}

impl<'a> Frames<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, key: Cell<'a>, value: Cell<'a>) {
        let cost = cost::of_key(key.item) + cost::of(value.item);
        if self.keys.len() == RECORDS || (self.cost + cost > COST && !self.keys.is_empty()) {
            self.cut();
        }
        self.keys.push(key);
        self.values.push(value);
        self.cost += cost;
    }

    /// End the frame at hand: what comes is in another one.
    pub fn cut(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let mut payload = vec![0; 8];
        put_column(&mut payload, &self.keys);
        let length = (payload.len() - 8) as u64;
        payload[..8].copy_from_slice(&length.to_le_bytes());
        put_column(&mut payload, &self.values);
        self.done.push(Frame { payload, records: self.keys.len(), cost: self.cost });
        self.keys.clear();
        self.values.clear();
        self.cost = 0;
    }

    pub fn finish(mut self) -> Vec<Frame> {
        self.cut();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Item;

    fn framed(records: usize, text: &[u8]) -> Vec<usize> {
        let mut frames = Frames::new();
        let one = Cell { item: Item::Int(1), packed: &[1] };
        (0..records).for_each(|_| frames.add(Cell { item: Item::Text(text), packed: &[] }, one));
        frames.finish().iter().map(|frame| frame.records).collect()
    }

    #[test]
    fn frames_are_bounded_by_records_and_by_cost() {
        assert_eq!(framed(0, b""), [] as [usize; 0]);
        assert_eq!(framed(10_000, b"w"), [4096, 4096, 1808]);
        assert_eq!(framed(3, &[b'x'; 600_000]), [1, 1, 1]);
        assert_eq!(framed(1, &[b'x'; 2_000_000]), [1]);
    }

    #[test]
    fn a_payload_is_the_length_of_the_keys_they_and_the_values() {
        let mut frames = Frames::new();
        let one = Cell { item: Item::Int(1), packed: &[1] };
        frames.add(Cell { item: Item::Text(b"a"), packed: &[] }, one);
        frames.add(Cell { item: Item::Text(b"b"), packed: &[] }, one);
        assert_eq!(frames.finish()[0].payload, b"\x04\0\0\0\0\0\0\0sa\0bc\x02\0\0\0\x01");
    }
}
