//! Connections by key. A key of something gone finds nothing, even when its place has been taken by
//! another: that is what keeps a late reply from reaching a stranger.

use std::marker::PhantomData;

use slab::Slab;

/// Names one entry for as long as it lives.
pub struct Key<T> {
    index: usize,
    serial: u64,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The entry's place: unique among the living, taken again after its end.
    pub fn index(self) -> usize {
        self.index
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.serial)
    }
}

/// Entries of one kind; serials are never used twice.
pub struct Arena<T> {
    entries: Slab<(u64, T)>,
    serial: u64,
}

impl<T> Arena<T> {
    pub fn new() -> Self {
        Self {
            entries: Slab::new(),
            serial: 0,
        }
    }

    pub fn insert(&mut self, entry: T) -> Key<T> {
        self.serial += 1;
        let index = self.entries.insert((self.serial, entry));
        Key {
            index,
            serial: self.serial,
            of: PhantomData,
        }
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        match self.entries.get(key.index) {
            Some((serial, entry)) if *serial == key.serial => Some(entry),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.entries.get_mut(key.index) {
            Some((serial, entry)) if *serial == key.serial => Some(entry),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        Some(self.entries.remove(key.index).1)
    }

    /// The living entry at a place, for events that know only the place.
    pub fn key_at(&self, index: usize) -> Option<Key<T>> {
        self.entries.get(index).map(|(serial, _)| Key {
            index,
            serial: *serial,
            of: PhantomData,
        })
    }

    pub fn keys(&self) -> Vec<Key<T>> {
        self.entries
            .iter()
            .map(|(index, (serial, _))| Key {
                index,
                serial: *serial,
                of: PhantomData,
            })
            .collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, (_, entry))| entry)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_is_another_entry() {
        let mut arena = Arena::new();
        let first = arena.insert("a");
        assert_eq!(arena.remove(first), Some("a"));
        let second = arena.insert("b");
        assert_eq!(first.index(), second.index());
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&"b"));
    }
}
