//! Replaces secrets in a byte stream, however the stream is cut into pieces. Pure.

use std::ops::Range;
use std::sync::Arc;

use super::follow::Follower;
use super::needles::{Needle, needles};
use super::spellings::{ESCAPES, LineBreak, Spelling, Spellings};
use crate::protocol::MASK;

/// The secrets to look for, shared by the streams of one run.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<Needles>);

#[derive(Debug, Default)]
struct Needles {
    all: Vec<Needle>,
    /// Where in `all`, which is sorted, those are that begin with a byte; empty if there are none.
    by_first: Vec<Range<usize>>,
    /// Which two bytes a spelling of any can begin with: most of an output is passed over by these.
    begins: Vec<bool>,
}

impl Secrets {
    /// Everything under which `values` could appear: plainly, escaped, encoded, in base64.
    pub fn new<S: AsRef<str>>(values: &[S]) -> Self {
        let all = needles(values);
        let begins = |byte: u16| all.partition_point(|needle| u16::from(needle.text.as_bytes()[0]) < byte);
        let by_first =
            if all.is_empty() { Vec::new() } else { (0..256).map(|byte| begins(byte)..begins(byte + 1)).collect() };
        let begins = beginnings(&all);
        Self(Arc::new(Needles { all, by_first, begins }))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// Where in `text` the first secret could begin.
    fn next_beginning(&self, text: &[u8]) -> Option<usize> {
        let begins = self.0.begins.as_slice();
        let found = text.windows(2).position(|two| begins[usize::from(two[0]) << 8 | usize::from(two[1])]);
        // Of the last byte it is not known what follows.
        found.or(text.len().checked_sub(1))
    }

    /// The needles, by their index, of which `text` could be the beginning by one of its spellings.
    fn begun_by<'a>(&'a self, text: &'a [u8], spellings: &'a Spellings) -> impl Iterator<Item = (usize, &'a Spelling)> {
        let next = text.get(1).copied();
        let may_go_on = move |index: &usize| {
            let second = self.0.all[*index].text.as_bytes()[1];
            next.is_none_or(|next| next == second || ESCAPES.contains(&next))
        };
        spellings.iter().flat_map(move |spelling| {
            let begun = self.0.by_first[usize::from(spelling.stands_for()[0])].clone();
            begun.filter(move |index| spelling.bytes > 1 || may_go_on(index)).map(move |index| (index, spelling))
        })
    }

    /// Where secrets are in the whole of a text; those that overlap are one.
    pub fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut search = Search::default();
        if !self.is_empty() {
            search.advance(self, text, true);
        }
        search.places
    }
}

/// For each pair of bytes, whether a spelling of a needle can begin with it.
fn beginnings(needles: &[Needle]) -> Vec<bool> {
    let mut begins = vec![false; if needles.is_empty() { 0 } else { 1 << 16 }];
    let mut add = |first: u8, second: u8| begins[usize::from(first) << 8 | usize::from(second)] = true;
    for needle in needles {
        let (first, second) = (needle.text.as_bytes()[0], needle.text.as_bytes()[1]);
        add(first, second);
        ESCAPES.iter().for_each(|escape| add(first, *escape));
        if first == b' ' {
            (0..=u8::MAX).for_each(|second| add(b'+', second));
        }
    }
    if !needles.is_empty() {
        (0..=u8::MAX).for_each(|second| b"\\%".iter().for_each(|first| add(*first, second)));
    }
    begins
}

/// A search for all secrets in one stream. Positions count from the stream's beginning.
#[derive(Debug, Default)]
struct Search {
    /// How far the stream was looked at.
    at: usize,
    /// One for each needle.
    followers: Vec<Follower>,
    /// Of the followers those that are not idle.
    active: Vec<usize>,
    /// What was found and not taken out yet, in order; those that overlap are one.
    places: Vec<Range<usize>>,
}

impl Search {
    /// Looks at `text`, the stream from where it was last looked at, as far as is decided without what follows.
    fn advance(&mut self, secrets: &Secrets, text: &[u8], is_end: bool) {
        self.followers.resize_with(secrets.0.all.len(), Follower::default);
        let mut rest = text;
        loop {
            if self.active.is_empty() {
                let skipped = secrets.next_beginning(rest).unwrap_or_default();
                rest = &rest[skipped..];
                self.at += skipped;
            }
            let spellings = Spellings::of(rest);
            let may_break = |index: &usize| self.followers[*index].may_break(&secrets.0.all[*index], self.at);
            let line_break = match rest.first() {
                Some(b'\r' | b'\n' | b'\\') if self.active.iter().any(may_break) => LineBreak::of(rest),
                _ => LineBreak::default(),
            };
            if !is_end && (rest.is_empty() || spellings.cut || line_break.cut) {
                break;
            }
            self.step(secrets, rest, &spellings, line_break);
            let Some((_, after)) = rest.split_first() else { break };
            rest = after;
            self.at += 1;
        }
        for index in &self.active {
            self.followers[*index].secret().for_each(|place| add(&mut self.places, place));
        }
    }

    fn step(&mut self, secrets: &Secrets, rest: &[u8], spellings: &Spellings, line_break: LineBreak) {
        let Self { at, followers, active, places } = self;
        active.retain(|index| {
            if let Some(place) = followers[*index].step(&secrets.0.all[*index], *at, spellings, line_break) {
                add(places, place);
            }
            !followers[*index].is_idle()
        });
        for (index, spelling) in secrets.begun_by(rest, spellings) {
            let was_idle = followers[index].is_idle();
            followers[index].begin(&secrets.0.all[index], *at, spelling);
            if was_idle && !followers[index].is_idle() {
                active.push(index);
            }
        }
    }

    /// How far it is decided what is secret.
    fn decided(&self) -> usize {
        self.active.iter().filter_map(|index| self.followers[*index].undecided()).min().unwrap_or(self.at)
    }
}

/// Adds a place that ends behind the beginning of all others.
fn add(places: &mut Vec<Range<usize>>, place: Range<usize>) {
    let mut place = place;
    while let Some(last) = places.pop_if(|last| place.start < last.end) {
        place = place.start.min(last.start)..place.end.max(last.end);
    }
    places.push(place);
}

/// Replaces every secret in one stream by [`MASK`]; secrets that overlap share one mask. What could be the beginning
/// of a secret is held back until more of the stream, or its end, decides.
#[derive(Debug)]
pub struct Redactor {
    secrets: Secrets,
    search: Search,
    held: Vec<u8>,
    /// Where in the stream `held` begins.
    begin: usize,
    /// Where in the stream ends what a mask already stands for.
    masked: usize,
}

impl Redactor {
    /// A redactor at the start of a stream.
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, search: Search::default(), held: Vec::new(), begin: 0, masked: 0 }
    }

    /// Takes the next piece of the stream and appends what is decided to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        self.advance(false, out);
    }

    /// Ends the stream: appends the rest to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.advance(true, out);
    }

    /// Whether a mask stands for anything in what was appended.
    pub fn has_masked(&self) -> bool {
        self.masked > 0
    }

    fn advance(&mut self, at_end: bool, out: &mut Vec<u8>) {
        if self.secrets.is_empty() {
            out.append(&mut self.held);
            return;
        }
        self.search.advance(&self.secrets, &self.held[self.search.at - self.begin..], at_end);
        let end = if at_end { self.search.at } else { self.search.decided() };
        let held = |part: Range<usize>| &self.held[part.start - self.begin..part.end - self.begin];
        let mut done = self.begin.max(self.masked.min(end));
        let decided = self.search.places.partition_point(|place| place.start < end);
        for place in self.search.places.drain(..decided) {
            if place.start >= self.masked {
                out.extend_from_slice(held(done..place.start));
                out.extend_from_slice(MASK.as_bytes());
            }
            self.masked = self.masked.max(place.end);
            done = self.masked.min(end);
        }
        out.extend_from_slice(held(done..end));
        self.held.drain(..end - self.begin);
        self.begin = end;
    }
}

#[cfg(test)]
#[path = "property_tests.rs"]
mod property_tests;
#[cfg(test)]
#[path = "redactor_tests.rs"]
mod tests;
