//! Columns of items as bytes, as `mrq/codec/columns.py` reads them: a tag, then the densest form that their types allow.

use crate::item::{each, put_bytes, put_list_head, put_text, Item};

const CONSTANT: u8 = b'c';
const TEXT: u8 = b's';
const ESCAPED: u8 = b'z';
const TUPLES: u8 = b't';
const MIXED: u8 = b'm';

/// An item, and its msgpack where that is at hand.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    pub item: Item<'a>,
    /// Of a number or container; text and bytes are packed again where they must be.
    pub packed: &'a [u8],
}

impl Cell<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        match self.item {
            Item::Text(text) => put_text(out, text),
            Item::Bytes(bytes) => put_bytes(out, bytes),
            Item::None => out.push(0xc0),
            _ => out.extend_from_slice(self.packed),
        }
    }

    /// Whether another is the same, by what can be seen of it, and may be one object with it.
    fn is_same(&self, other: &Cell<'_>) -> bool {
        match (self.item, other.item) {
            (Item::Text(mine), Item::Text(its)) | (Item::Bytes(mine), Item::Bytes(its)) => mine == its,
            (Item::None, Item::None) => true,
            (Item::Bool(_) | Item::Int(_), Item::Bool(_) | Item::Int(_)) => self.packed == other.packed,
            _ => false,
        }
    }
}

/// The cells of a container's items.
fn cells(mut data: &[u8]) -> impl Iterator<Item = Cell<'_>> {
    let mut items = each(data);
    std::iter::from_fn(move || {
        let item = items.next()?;
        let (packed, rest) = data.split_at(crate::item::length(data));
        data = rest;
        Some(Cell { item, packed })
    })
}

/// Append the column of at least one cell.
pub fn put_column(out: &mut Vec<u8>, column: &[Cell<'_>]) {
    let first = &column[0];
    if column.len() > 1 && column[1..].iter().all(|cell| first.is_same(cell)) {
        put_constant(out, first, column.len());
        return;
    }
    match first.item {
        Item::Text(_) => put_texts(out, column),
        Item::Tuple(width, _) if width > 0 => put_tuples(out, column, width),
        _ => put_mixed(out, column),
    }
}

/// Append the column of one cell, so many times.
pub fn put_constant(out: &mut Vec<u8>, cell: &Cell<'_>, count: usize) {
    out.push(CONSTANT);
    out.extend_from_slice(&(count as u32).to_le_bytes());
    cell.put(out);
}

fn put_texts(out: &mut Vec<u8>, column: &[Cell<'_>]) {
    let begin = out.len();
    out.push(TEXT);
    for cell in column {
        match cell.item {
            Item::Text(text) if !text.contains(&0) => {
                out.extend_from_slice(text);
                out.push(0);
            }
            _ => {
                out.truncate(begin);
                put_mixed(out, column);
                return;
            }
        }
    }
    out.pop();
    if std::str::from_utf8(&out[begin + 1..]).is_err() {
        out[begin] = ESCAPED;
    }
}

fn put_tuples(out: &mut Vec<u8>, column: &[Cell<'_>], width: usize) {
    let mut rows = Vec::with_capacity(column.len());
    for cell in column {
        match cell.item {
            Item::Tuple(count, items) if count == width => rows.push(cells(items)),
            _ => return put_mixed(out, column),
        }
    }
    out.push(TUPLES);
    out.extend_from_slice(&(column.len() as u32).to_le_bytes());
    out.extend_from_slice(&(width as u32).to_le_bytes());
    for _ in 0..width {
        let inner: Vec<Cell<'_>> = rows.iter_mut().filter_map(Iterator::next).collect();
        let at = out.len();
        out.extend_from_slice(&[0; 8]);
        put_column(out, &inner);
        let length = (out.len() - at - 8) as u64;
        out[at..at + 8].copy_from_slice(&length.to_le_bytes());
    }
}

fn put_mixed(out: &mut Vec<u8>, column: &[Cell<'_>]) {
    out.push(MIXED);
    put_list_head(out, column.len());
    column.iter().for_each(|cell| cell.put(out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{begin_tuple, end_tuple, put_int};

    fn column(items: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_column(&mut out, &cells(items).collect::<Vec<_>>());
        out
    }

    #[test]
    fn text_is_joined_unless_it_holds_zeros() {
        assert_eq!(column(b"\xa1a\xa2bc"), b"sa\0bc");
        assert_eq!(column(b"\xa1a\xa1\xff"), b"za\0\xff");
        assert_eq!(column(b"\xa1a\xa1\0"), b"m\x92\xa1a\xa1\0");
        assert_eq!(column(b"\xa1a\x01"), b"m\x92\xa1a\x01");
        assert_eq!(column(b"\xa0"), b"s");
    }

    #[test]
    fn what_is_the_same_is_written_once() {
        assert_eq!(column(b"\xa1a\xa1a\xa1a"), b"c\x03\0\0\0\xa1a");
        assert_eq!(column(b"\x01\x01"), b"c\x02\0\0\0\x01");
        assert_eq!(column(b"\x01\xc3"), b"m\x92\x01\xc3");
        assert_eq!(column(b"\x90\x90"), b"m\x92\x90\x90");
    }

    #[test]
    fn tuples_of_one_width_are_columns() {
        let mut items = Vec::new();
        for value in [7, 8] {
            let at = begin_tuple(&mut items, 2);
            put_text(&mut items, b"k");
            put_int(&mut items, value);
            end_tuple(&mut items, at);
        }
        let mut wanted = b"t\x02\0\0\0\x02\0\0\0".to_vec();
        wanted.extend_from_slice(b"\x07\0\0\0\0\0\0\0c\x02\0\0\0\xa1k");
        wanted.extend_from_slice(b"\x04\0\0\0\0\0\0\0m\x92\x07\x08");
        assert_eq!(column(&items), wanted);
    }
}
