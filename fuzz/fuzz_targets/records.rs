//! The record tracker finds the boundaries and the sizes that a plain second reading finds, however
//! the bytes are cut. The first byte of the input says how.
#![no_main]

use apiproxy::proxy::fuzzing::{Heard, Tracker};
use libfuzzer_sys::fuzz_target;

/// Where headers end, what each tells, where records end, and where TLS ends, if it does.
#[derive(Default)]
struct Reading {
    headers: Vec<(usize, Heard)>,
    boundaries: Vec<usize>,
    lost: Option<usize>,
}

fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading { boundaries: vec![0], ..Reading::default() };
    let mut at = 0;
    while let Some(&[kind, major, _, high, low]) = bytes.get(at..at + 5) {
        let length = usize::from(high) * 256 + usize::from(low);
        at += 5;
        if !(20..=24).contains(&kind) || major != 3 || length > 16384 + 2048 {
            reading.lost = Some(at);
            return reading;
        }
        // One or two control frames (9, 13 or 17 bytes), with what TLS 1.3 or 1.2 adds.
        let control = [26, 30, 33, 34, 37, 41, 43, 47, 50, 51, 54, 58].contains(&length);
        reading.headers.push((at, if control { Heard::Control } else { Heard::Message }));
        at += length;
        reading.boundaries.push(at);
    }
    reading
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let reading = read(bytes);
    let mut tracker = Tracker::default();
    let mut step = usize::from(cut);
    let mut at = 0;
    assert!(tracker.at_boundary());
    while at < bytes.len() {
        let end = (at + step % 97 + 1).min(bytes.len());
        let heard = tracker.feed(&bytes[at..end]);
        let lost = reading.lost.is_some_and(|lost| lost <= end);
        let begun = reading.headers.iter().filter(|(header, _)| (at + 1..=end).contains(header));
        let expected = begun.map(|(_, heard)| *heard).max().unwrap_or(Heard::Nothing);
        let expected = if lost { Heard::Message } else { expected };
        assert_eq!(heard, expected, "bytes {at} to {end}");
        let boundary = lost || reading.boundaries.contains(&end);
        assert_eq!(tracker.at_boundary(), boundary, "at {end}");
        (at, step) = (end, step * 31 + 7);
        step %= 1 << 16;
    }
});
