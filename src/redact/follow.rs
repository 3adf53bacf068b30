//! Follows one needle through a text, from all places at once where it could have begun. Pure.
//!
//! Each position of the text has the set of how many bytes of the needle can end there, and by each spelling that the text
//! has there it is gone on from. So the time for a byte of text is bounded by the needle's length in machine words, whatever
//! the text is.

use std::collections::BTreeMap;
use std::ops::Range;

use super::needles::Needle;
use super::spellings::{LineBreak, Spelling, Spellings};

/// Of a needle with more bytes so many at its beginning are enough: they are masked, and what follows as far as it is the
/// needle's. So nothing longer is held back, and of a long secret no long part is shown.
pub const ENOUGH: usize = 256;

/// One needle's way through a text.
#[derive(Debug, Default)]
pub struct Follower {
    sets: Sets,
    places: Places,
}

#[derive(Debug, Default)]
struct Sets {
    /// What is to be gone on from.
    ends: Vec<Ends>,
    /// Sets that are used again.
    spare: Vec<Ends>,
}

/// For a byte, where the needle has it, as a set of bits; made when first needed.
#[derive(Debug, Default)]
struct Places(BTreeMap<u8, Vec<u64>>);

/// How many bytes of a needle can end at a position, as a set of bits.
#[derive(Debug)]
struct Ends {
    at: usize,
    bits: Vec<u64>,
    /// The words of `bits` that are not 0 lie within.
    words: Range<usize>,
    /// Where the earliest began that ends with so many bytes, for less than what is enough; `usize::MAX`: none ends so.
    began: Vec<usize>,
    /// Where the earliest began of those with enough; `usize::MAX`: there is none.
    enough_began: usize,
}

impl Follower {
    /// Whether nothing is to be gone on from.
    pub fn is_idle(&self) -> bool {
        self.sets.ends.is_empty()
    }

    /// Where the earliest began that is not decided yet.
    pub fn undecided(&self) -> Option<usize> {
        self.sets.ends.iter().filter_map(Ends::undecided).min()
    }

    /// What is secret of the text as far as it was looked at; it may reach a few bytes further.
    pub fn secret(&self) -> impl Iterator<Item = Range<usize>> {
        self.sets.ends.iter().filter_map(Ends::secret)
    }

    /// Whether anything is to be gone on from at `at` that a line break may follow.
    pub fn may_break(&self, needle: &Needle, at: usize) -> bool {
        needle.breaks && self.sets.ends.iter().any(|ends| ends.at == at)
    }

    /// The needle begins at `at` if it begins with what `spelling` stands for.
    pub fn begin(&mut self, needle: &Needle, at: usize, spelling: &Spelling) {
        if needle.text.as_bytes().starts_with(spelling.stands_for()) {
            let mut there = self.sets.take(needle, at + spelling.bytes);
            there.add(spelling.stands_for().len(), at);
            self.sets.ends.push(there);
        }
    }

    /// Goes on from `at`, where the text has `spellings` and the line break. Returns what ends there and is secret.
    pub fn step(
        &mut self,
        needle: &Needle,
        at: usize,
        spellings: &Spellings,
        line_break: LineBreak,
    ) -> Option<Range<usize>> {
        let mut here = self.sets.ends.swap_remove(self.sets.ends.iter().position(|ends| ends.at == at)?);
        let secret = here.secret();
        here.remove(needle.text.len());
        for spelling in spellings.iter() {
            self.go_on(needle, &here, spelling);
        }
        if needle.breaks && line_break.bytes > 0 {
            let mut there = None;
            for word in here.words.clone().filter(|word| here.bits[*word] != 0) {
                let there = there.get_or_insert_with(|| self.sets.take(needle, at + line_break.bytes));
                there.add_further(&here, word, here.bits[word], 0);
            }
            self.sets.ends.extend(there);
        }
        here.clear();
        self.sets.spare.push(here);
        secret
    }

    fn go_on(&mut self, needle: &Needle, here: &Ends, spelling: &Spelling) {
        let (text, stands_for) = (needle.text.as_bytes(), spelling.stands_for());
        let is_many = |bits: &u64| bits & bits.wrapping_sub(1) != 0;
        let has_many = here.bits[here.words.clone()].iter().any(is_many);
        let places = has_many.then(|| self.places.of(text, stands_for[0]));
        let mut there = None;
        for word in here.words.clone() {
            let mut bits = here.bits[word];
            let places = places.filter(|_| is_many(&bits));
            if let Some(places) = places {
                bits &= places[word];
            }
            if places.is_none() || stands_for.len() > 1 {
                let goes_on = |bit: &u32| text[word * 64 + *bit as usize..].starts_with(stands_for);
                bits = members(bits).filter(goes_on).fold(0, |bits, bit| bits | 1 << bit);
            }
            if bits != 0 {
                let there = there.get_or_insert_with(|| self.sets.take(needle, here.at + spelling.bytes));
                there.add_further(here, word, bits, stands_for.len() as u32);
            }
        }
        self.sets.ends.extend(there);
    }
}

impl Sets {
    /// The set of a position, to be put back.
    fn take(&mut self, needle: &Needle, at: usize) -> Ends {
        if let Some(index) = self.ends.iter().position(|ends| ends.at == at) {
            return self.ends.swap_remove(index);
        }
        let ends = self.spare.pop().unwrap_or_else(|| Ends::new(needle.text.len()));
        Ends { at, ..ends }
    }
}

impl Ends {
    /// An empty set, for a needle of so many bytes.
    fn new(bytes: usize) -> Self {
        Self {
            at: 0,
            bits: vec![0; bytes / 64 + 2],
            words: 0..0,
            began: vec![usize::MAX; bytes.min(ENOUGH)],
            enough_began: usize::MAX,
        }
    }

    fn clear(&mut self) {
        self.bits[self.words.clone()].fill(0);
        let began = self.began.len();
        self.began[(self.words.start * 64).min(began)..(self.words.end * 64).min(began)].fill(usize::MAX);
        (self.words, self.enough_began) = (0..0, usize::MAX);
    }

    fn add(&mut self, count: usize, began: usize) {
        self.add_word(count / 64, 1 << (count % 64));
        self.add_began(count, began);
    }

    fn remove(&mut self, count: usize) {
        self.bits[count / 64] &= !(1 << (count % 64));
    }

    /// Adds what this word of another set has in `bits`, each with so many bytes more.
    fn add_further(&mut self, other: &Self, word: usize, bits: u64, more: u32) {
        self.add_word(word, bits << more);
        self.add_word(word + 1, bits.checked_shr(64 - more).unwrap_or(0));
        if word * 64 >= other.began.len() {
            return self.enough_began = self.enough_began.min(other.enough_began);
        }
        for bit in members(bits) {
            let count = word * 64 + bit as usize;
            self.add_began(count + more as usize, other.began(count));
        }
    }

    fn add_word(&mut self, word: usize, bits: u64) {
        if bits != 0 {
            self.bits[word] |= bits;
            let words = &self.words;
            self.words = if words.is_empty() { word..word + 1 } else { words.start.min(word)..words.end.max(word + 1) };
        }
    }

    fn add_began(&mut self, count: usize, began: usize) {
        let earliest = self.began.get_mut(count).unwrap_or(&mut self.enough_began);
        *earliest = began.min(*earliest);
    }

    fn began(&self, count: usize) -> usize {
        self.began.get(count).copied().unwrap_or(self.enough_began)
    }

    /// Of all that have less than enough.
    fn undecided(&self) -> Option<usize> {
        let began = self.began.iter().skip(self.words.start * 64).take(self.words.len() * 64).min();
        began.copied().filter(|began| *began < self.at)
    }

    fn secret(&self) -> Option<Range<usize>> {
        (self.enough_began < self.at).then_some(self.enough_began..self.at)
    }
}

/// The bits that are set.
fn members(bits: u64) -> impl Iterator<Item = u32> {
    let mut rest = bits;
    std::iter::from_fn(move || {
        let bit = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit)
    })
}

impl Places {
    fn of(&mut self, text: &[u8], byte: u8) -> &[u64] {
        self.0.entry(byte).or_insert_with(|| {
            let mut bits = vec![0; text.len() / 64 + 2];
            for (at, _) in text.iter().enumerate().filter(|(_, here)| **here == byte) {
                bits[at / 64] |= 1 << (at % 64);
            }
            bits
        })
    }
}
