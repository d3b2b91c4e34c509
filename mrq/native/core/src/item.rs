//! Items: one key or value as msgpack, ext 1 a tuple, ext 2 an int beyond 64 bits.

/// What an item is; text and bytes with their content, a container with its items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8, in which bytes that are none stand for themselves (surrogateescape).
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// How many items, and they, one behind the other.
    Tuple(usize, &'a [u8]),
    List(usize, &'a [u8]),
    /// How many keys, and those, each with its value behind it.
    Dict(usize, &'a [u8]),
    /// Bytes of an int that doesn't fit into 64 bits, or that msgpack has as unsigned.
    Long(&'a [u8]),
}

const TUPLE: u8 = 1;
const EXT8: u8 = 0xc7;
const EXT32: u8 = 0xc9;

pub fn put_none(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

pub fn put_int(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=0x7f => out.push(value as u8),
        -32..=-1 => out.push(value as i8 as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000_0000..=0x7fff_ffff => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

pub fn put_float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=0xff => out.extend_from_slice(&[0xd9, n as u8]),
        n => put_long_head(out, 0xdb, n),
    }
    out.extend_from_slice(text);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        n @ 0..=0xff => out.extend_from_slice(&[0xc4, n as u8]),
        n => put_long_head(out, 0xc6, n),
    }
    out.extend_from_slice(bytes);
}

/// The head of a list, before its items.
pub fn put_list_head(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x90 | count as u8),
        _ => put_long_head(out, 0xdd, count),
    }
}

/// The head of a dict, before its keys, each followed by its value.
pub fn put_dict_head(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x80 | count as u8),
        _ => put_long_head(out, 0xdf, count),
    }
}

fn put_long_head(out: &mut Vec<u8>, tag: u8, count: usize) {
    out.push(tag);
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

/// Begin a tuple; its items follow, then `end_tuple` with what this gives.
pub fn begin_tuple(out: &mut Vec<u8>, count: usize) -> usize {
    let at = out.len();
    out.extend_from_slice(&[EXT8, 0, TUPLE]);
    put_list_head(out, count);
    at
}

/// End the tuple that began there.
pub fn end_tuple(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 3;
    if length <= 0xff {
        out[at + 1] = length as u8;
        return;
    }
    let mut head = [EXT32, 0, 0, 0, 0, TUPLE];
    head[1..5].copy_from_slice(&(length as u32).to_be_bytes());
    out.splice(at..at + 3, head);
}

/// The first item of some bytes, and what lies behind it. Panics where there is none: only what was put is read.
pub fn first(data: &[u8]) -> (Item<'_>, &[u8]) {
    let (tag, rest) = (data[0], &data[1..]);
    match tag {
        0x00..=0x7f => (Item::Int(i64::from(tag)), rest),
        0xe0..=0xff => (Item::Int(i64::from(tag as i8)), rest),
        0xc0 => (Item::None, rest),
        0xc2 | 0xc3 => (Item::Bool(tag == 0xc3), rest),
        0xcb => (Item::Float(f64::from_bits(number(rest, 8))), &rest[8..]),
        0xcc..=0xce => {
            let width = 1 << (tag - 0xcc);
            (Item::Int(number(rest, width) as i64), &rest[width..])
        }
        0xcf => (Item::Long(&data[..9]), &rest[8..]),
        0xd0 => (Item::Int(i64::from(rest[0] as i8)), &rest[1..]),
        0xd1 => (Item::Int(i64::from(number(rest, 2) as i16)), &rest[2..]),
        0xd2 => (Item::Int(i64::from(number(rest, 4) as i32)), &rest[4..]),
        0xd3 => (Item::Int(number(rest, 8) as i64), &rest[8..]),
        0xa0..=0xbf => sized(rest, 0, usize::from(tag & 0x1f), Item::Text),
        0xd9..=0xdb => sized(rest, 1 << (tag - 0xd9), 0, Item::Text),
        0xc4..=0xc6 => sized(rest, 1 << (tag - 0xc4), 0, Item::Bytes),
        0x90..=0x9f => list(rest, usize::from(tag & 0xf)),
        0xdc => list(&rest[2..], number(rest, 2) as usize),
        0xdd => list(&rest[4..], number(rest, 4) as usize),
        0x80..=0x8f => dict(rest, usize::from(tag & 0xf)),
        0xde => dict(&rest[2..], number(rest, 2) as usize),
        0xdf => dict(&rest[4..], number(rest, 4) as usize),
        0xd4..=0xd8 => extension(&rest[1..], rest[0], 1 << (tag - 0xd4)),
        0xc7..=0xc9 => {
            let width = 1 << (tag - 0xc7);
            extension(&rest[width + 1..], rest[width], number(rest, width) as usize)
        }
        _ => panic!("no item begins with the byte {tag:#x}"),
    }
}

/// The items of a container, one after the other.
pub fn each(mut data: &[u8]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let (item, rest) = first(data);
        data = rest;
        Some(item)
    })
}

/// How many bytes the first item takes.
pub fn length(data: &[u8]) -> usize {
    data.len() - first(data).1.len()
}

fn number(data: &[u8], width: usize) -> u64 {
    data[..width].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn sized<'a>(
    rest: &'a [u8],
    width: usize,
    known: usize,
    make: fn(&'a [u8]) -> Item<'a>,
) -> (Item<'a>, &'a [u8]) {
    let count = if width > 0 { number(rest, width) as usize } else { known };
    let (content, rest) = rest[width..].split_at(count);
    (make(content), rest)
}

fn list(rest: &[u8], count: usize) -> (Item<'_>, &[u8]) {
    let (items, rest) = rest.split_at(after(rest, count));
    (Item::List(count, items), rest)
}

fn dict(rest: &[u8], count: usize) -> (Item<'_>, &[u8]) {
    let (items, rest) = rest.split_at(after(rest, 2 * count));
    (Item::Dict(count, items), rest)
}

/// How many bytes so many items take.
fn after(data: &[u8], count: usize) -> usize {
    let mut rest = data;
    for _ in 0..count {
        rest = first(rest).1;
    }
    data.len() - rest.len()
}

fn extension(rest: &[u8], code: u8, size: usize) -> (Item<'_>, &[u8]) {
    let (content, rest) = rest.split_at(size);
    if code != TUPLE {
        return (Item::Long(content), rest);
    }
    match first(content).0 {
        Item::List(count, items) => (Item::Tuple(count, items), rest),
        other => panic!("a tuple is no {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_again() {
        let ints = [0, 1, -1, 127, 128, -32, -33, -128, -129, 255, 256, 65_535, 65_536, i64::MIN, i64::MAX];
        let mut out = Vec::new();
        for value in ints {
            put_int(&mut out, value);
        }
        put_float(&mut out, -0.0);
        for size in [0, 31, 32, 255, 256, 70_000] {
            put_text(&mut out, &vec![b'x'; size]);
            put_bytes(&mut out, &vec![0; size]);
        }
        let mut found = each(&out);
        for value in ints {
            assert_eq!(found.next(), Some(Item::Int(value)));
        }
        assert!(matches!(found.next(), Some(Item::Float(value)) if value == 0.0 && value.is_sign_negative()));
        for size in [0, 31, 32, 255, 256, 70_000] {
            assert_eq!(found.next(), Some(Item::Text(&vec![b'x'; size])));
            assert_eq!(found.next(), Some(Item::Bytes(&vec![0; size])));
        }
        assert_eq!(found.next(), None);
    }

    #[test]
    fn containers_have_their_items_at_any_length() {
        for size in [0, 1, 15, 16, 300] {
            let mut out = Vec::new();
            let at = begin_tuple(&mut out, size);
            (0..size).for_each(|value| put_int(&mut out, value as i64));
            end_tuple(&mut out, at);
            put_list_head(&mut out, size);
            (0..size).for_each(|_| put_none(&mut out));
            put_dict_head(&mut out, size);
            (0..size).for_each(|value| {
                put_int(&mut out, value as i64);
                put_bool(&mut out, true);
            });
            let (tuple, rest) = first(&out);
            let Item::Tuple(count, items) = tuple else { panic!("{tuple:?}") };
            assert_eq!((count, each(items).count()), (size, size));
            let (list, rest) = first(rest);
            let Item::List(count, items) = list else { panic!("{list:?}") };
            assert_eq!((count, each(items).count()), (size, size));
            let (dict, rest) = first(rest);
            let Item::Dict(count, items) = dict else { panic!("{dict:?}") };
            assert_eq!((count, each(items).count(), rest.len()), (size, 2 * size, 0));
        }
    }
}
