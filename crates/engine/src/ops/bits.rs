//! Sets of functions of one object.

use std::collections::BTreeMap;

use super::ObjectKey;

/// A set of small numbers below a fixed limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

/// Functions of all objects; an object without any has no entry.
pub(super) type Members = BTreeMap<ObjectKey, Bits>;

impl Bits {
    /// The empty set of numbers below the limit.
    pub(super) fn below(limit: usize) -> Self {
        Self(vec![0; limit.div_ceil(64)])
    }

    /// All numbers below the limit.
    pub(super) fn full(limit: usize) -> Self {
        let mut words = vec![!0; limit / 64];
        words.extend((!limit.is_multiple_of(64)).then(|| (1 << (limit % 64)) - 1));
        Self(words)
    }

    /// The numbers below the limit that the predicate takes.
    pub(super) fn filled(limit: usize, mut takes: impl FnMut(usize) -> bool) -> Self {
        let mut bits = Self::below(limit);
        (0..limit).filter(|&at| takes(at)).for_each(|at| bits.insert(at));
        bits
    }

    pub(super) fn insert(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Keeps what is in the other, too; nothing if there is no other.
    pub(super) fn keep(&mut self, other: Option<&Self>) {
        self.combine(other, |word, other| word & other);
    }

    /// Takes out what is in the other.
    pub(super) fn remove(&mut self, other: Option<&Self>) {
        self.combine(other, |word, other| word & !other);
    }

    /// Adds what is in the other.
    pub(super) fn add(&mut self, other: Option<&Self>) {
        self.combine(other, |word, other| word | other);
    }

    fn combine(&mut self, other: Option<&Self>, with: impl Fn(u64, u64) -> u64) {
        let other = other.map_or(&[][..], |other| &other.0);
        for (at, word) in self.0.iter_mut().enumerate() {
            *word = with(*word, other.get(at).copied().unwrap_or(0));
        }
    }

    /// The numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(index, &word)| ones(word).map(move |bit| index * 64 + bit))
    }

    /// What differs, ascending: the number, and whether it is in the new set.
    pub(super) fn differences<'a>(
        old: Option<&'a Self>,
        new: Option<&'a Self>,
    ) -> impl Iterator<Item = (usize, bool)> + 'a {
        let word = |bits: Option<&Self>, at: usize| {
            bits.and_then(|bits| bits.0.get(at)).copied().unwrap_or(0)
        };
        let length = |bits: Option<&Self>| bits.map_or(0, |bits| bits.0.len());
        (0..length(old).max(length(new))).flat_map(move |at| {
            let (old, new) = (word(old, at), word(new, at));
            ones(old ^ new).map(move |bit| (at * 64 + bit, new >> bit & 1 == 1))
        })
    }
}

/// The positions of the bits that are set.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[usize]) -> Bits {
        Bits::filled(200, |at| numbers.contains(&at))
    }

    #[test]
    fn sets_combine() {
        let (low, high) = (of(&[0, 63, 64]), of(&[64, 199]));
        let combined = |change: fn(&mut Bits, Option<&Bits>), other| {
            let mut bits = low.clone();
            change(&mut bits, other);
            bits.iter().collect::<Vec<_>>()
        };
        assert_eq!(combined(Bits::keep, Some(&high)), [64]);
        assert_eq!(combined(Bits::remove, Some(&high)), [0, 63]);
        assert_eq!(combined(Bits::add, Some(&high)), [0, 63, 64, 199]);
        assert_eq!(combined(Bits::keep, None), []);
        assert_eq!(combined(Bits::remove, None), [0, 63, 64]);
        assert!(low.contains(63) && !low.contains(62) && !low.contains(1000));
        assert_eq!(low.len(), 3);
        for limit in [0, 1, 63, 64, 65] {
            assert_eq!(Bits::full(limit), Bits::filled(limit, |_| true));
        }
    }

    #[test]
    fn differences_say_where_to() {
        let (old, new) = (of(&[1, 64]), of(&[1, 65, 130]));
        let differences: Vec<_> = Bits::differences(Some(&old), Some(&new)).collect();
        assert_eq!(differences, [(64, false), (65, true), (130, true)]);
        let gone: Vec<_> = Bits::differences(Some(&old), None).collect();
        assert_eq!(gone, [(1, false), (64, false)]);
    }
}
