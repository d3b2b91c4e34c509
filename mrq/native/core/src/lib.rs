//! What the native data path does with bytes; it knows no Python.
//!
//! A key or value comes as an *item*, its msgpack as `mrq/codec/columns.py` has it. Keys are told apart, ordered and
//! found by their *canonical* bytes, which are equal where Python takes two keys for one (`key`). What leaves is what
//! the path in Python writes and reads: columns of items (`column`) in frames (`frame`), dealt out by the same hash
//! or ranges (`deal`). `fold` and `pairs` are what a map's pairs are held in until then.

pub mod column;
pub mod cost;
pub mod deal;
pub mod fold;
pub mod frame;
pub mod hash;
pub mod item;
pub mod key;
pub mod pairs;
pub mod slots;

/// There is no memory for what was to be held.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Append to an arena. What doesn't fit into memory is told, and leaves the arena as it was.
pub fn append(arena: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoMemory> {
    arena.try_reserve(bytes.len()).map_err(|_| NoMemory)?;
    arena.extend_from_slice(bytes);
    Ok(())
}
