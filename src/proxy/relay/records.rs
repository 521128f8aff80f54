//! Follows TLS records by their headers alone, to know when a direction is between two of them. It
//! opens nothing and keeps nothing but a position.

/// Type (1), version (2) and length (2): RFC 8446 section 5.1.
const HEADER: usize = 5;

/// The longest record: 2^14 bytes and 2048 of expansion (RFC 5246 section 6.2.3; TLS 1.3 allows less).
const LONGEST: usize = (1 << 14) + 2048;

/// Record lengths of HTTP/2 frames that carry no request and no answer, alone or two together: a
/// SETTINGS acknowledgement (9 bytes), a window update (13) and a PING (17), and what TLS 1.3 (17) or
/// TLS 1.2 with AES-GCM (24) adds.
const CONTROL_FRAMES: [usize; 6] = [9, 13, 17, 26, 30, 34];
const EXPANSIONS: [usize; 2] = [17, 24];

/// What some bytes hold, judged by the sizes of the records that begin in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::proxy) enum Speech {
    /// No record begins.
    Nothing,
    /// Probably a control frame; perhaps a very short request or answer.
    Control,
    /// Perhaps a request or an answer.
    Message,
}

/// The position in one direction's stream of records.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct Records {
    phase: Phase,
    /// The position was lost once and found again by a guess: bytes that do not fit mean that it
    /// was a wrong one, not that this is not TLS.
    guessed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// So many bytes of a header have come.
    Header { bytes: [u8; HEADER], have: u8 },
    /// So many bytes of a record's content are to come.
    Content { left: u16 },
    /// This is not TLS, or not any more as far as we can tell.
    Lost,
    /// It was TLS before bytes went by unseen. `fresh` when the source had no more after what came
    /// last: the next bytes may well begin with a record.
    Unsynced { fresh: bool },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER], have: 0 }
    }
}

impl Records {
    /// Takes in the next bytes. Bytes that are not TLS are always taken for a message.
    pub(in crate::proxy) fn feed(&mut self, mut bytes: &[u8]) -> Speech {
        let mut speech = Speech::Nothing;
        while !bytes.is_empty() {
            match &mut self.phase {
                // What is not understood is always taken for a message.
                Phase::Lost | Phase::Unsynced { fresh: false } => return Speech::Message,
                Phase::Unsynced { fresh: true } => {
                    self.phase = Phase::default();
                    self.guessed = true;
                }
                Phase::Content { left } => {
                    let step = bytes.len().min(usize::from(*left));
                    bytes = &bytes[step..];
                    // `step` is at most `left`.
                    *left -= u16::try_from(step).unwrap_or(*left);
                    if *left == 0 {
                        self.phase = Phase::default();
                    }
                }
                Phase::Header { bytes: header, have } => {
                    let step = bytes.len().min(HEADER - usize::from(*have));
                    let at = usize::from(*have);
                    header[at..at + step].copy_from_slice(&bytes[..step]);
                    bytes = &bytes[step..];
                    if at + step < HEADER {
                        *have += u8::try_from(step).unwrap_or(0);
                        continue;
                    }
                    let (next, record) = Self::begin(*header);
                    self.phase = match next {
                        Phase::Lost if self.guessed => Phase::Unsynced { fresh: false },
                        next => next,
                    };
                    let control = record.is_some_and(is_control);
                    let heard = if control { Speech::Control } else { Speech::Message };
                    speech = speech.max(heard);
                }
            }
        }
        speech
    }

    /// Bytes went by unseen: spliced.
    pub(in crate::proxy) fn skip(&mut self) {
        if !matches!(self.phase, Phase::Lost) {
            self.phase = Phase::Unsynced { fresh: false };
        }
    }

    /// The source has no more for now.
    pub(in crate::proxy) fn source_empty(&mut self) {
        if let Phase::Unsynced { fresh } = &mut self.phase {
            *fresh = true;
        }
    }

    /// What follows a whole header, and the length of the record when it is one.
    fn begin(header: [u8; HEADER]) -> (Phase, Option<usize>) {
        let [kind, major, _, high, low] = header;
        let length = u16::from_be_bytes([high, low]);
        let is_record = (20..=24).contains(&kind) && major == 3 && usize::from(length) <= LONGEST;
        match (is_record, length) {
            (false, _) => (Phase::Lost, None),
            (true, 0) => (Phase::default(), Some(0)),
            (true, left) => (Phase::Content { left }, Some(usize::from(left))),
        }
    }

    /// Is the direction between two records? Always so when it is not TLS.
    pub(in crate::proxy) fn at_boundary(self) -> bool {
        match self.phase {
            Phase::Header { have, .. } => have == 0,
            Phase::Content { .. } | Phase::Unsynced { .. } => false,
            Phase::Lost => true,
        }
    }
}

fn is_control(length: usize) -> bool {
    EXPANSIONS.iter().any(|expansion| {
        length.checked_sub(*expansion).is_some_and(|frames| CONTROL_FRAMES.contains(&frames))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let mut bytes = vec![kind, 3, 3];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.resize(HEADER + usize::from(length), 0xaa);
        bytes
    }

    #[test]
    fn control_frames_are_told_by_their_sizes() {
        let speech = |length| Records::default().feed(&record(23, length));
        for length in [26, 30, 34, 41, 43] {
            assert_eq!(speech(length), Speech::Control, "{length}");
        }
        for length in [27, 100, 16384] {
            assert_eq!(speech(length), Speech::Message, "{length}");
        }
        let mut records = Records::default();
        assert_eq!(records.feed(&record(23, 100)[..50]), Speech::Message);
        assert_eq!(records.feed(&record(23, 100)[50..]), Speech::Nothing);
    }

    #[test]
    fn what_is_not_tls_is_always_between_records_and_always_speaks() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], &[23, 2, 0, 0, 1], &[23, 3, 3, 255, 255]] {
            let mut records = Records::default();
            assert_eq!(records.feed(text), Speech::Message);
            assert!(records.at_boundary());
            assert_eq!(records.feed(b"x"), Speech::Message);
        }
    }

    #[test]
    fn after_unseen_bytes_it_is_at_no_boundary_until_a_record_begins_a_wake() {
        let mut records = Records::default();
        records.feed(&record(23, 300));
        assert!(records.at_boundary());
        records.skip();
        assert!(!records.at_boundary());
        assert_eq!(records.feed(&record(23, 30)), Speech::Message, "the source was not empty");
        assert!(!records.at_boundary());
        records.source_empty();
        assert!(!records.at_boundary());
        assert_eq!(records.feed(&record(23, 30)), Speech::Control);
        assert!(records.at_boundary());
    }

    #[test]
    fn bytes_that_do_not_fit_after_unseen_ones_are_no_proof_of_another_protocol() {
        let mut records = Records::default();
        records.feed(&record(23, 300));
        records.skip();
        for wrong in [&b"GET / HTTP/1.1\r\n"[..], &[23, 3, 3, 0, 1, 9, 23, 3, 4, 255, 255]] {
            records.source_empty();
            assert_eq!(records.feed(wrong), Speech::Message);
            assert!(!records.at_boundary());
            assert_eq!(records.feed(&record(23, 30)), Speech::Message);
            assert!(!records.at_boundary());
        }
        records.source_empty();
        records.feed(&record(23, 30));
        assert!(records.at_boundary());
    }

    #[test]
    fn what_was_not_tls_stays_so() {
        let mut records = Records::default();
        records.feed(b"GET / HTTP/1.1\r\n");
        records.skip();
        assert!(records.at_boundary());
        records.source_empty();
        assert_eq!(records.feed(&record(23, 30)), Speech::Message);
    }

    proptest! {
        /// However the stream is cut, the boundaries are those of the records.
        #[test]
        fn boundaries_are_exact(
            lengths in proptest::collection::vec(0u16..3000, 1..12),
            cuts in proptest::collection::vec(1usize..700, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut boundaries = vec![0];
            for length in &lengths {
                stream.extend(record(23, *length));
                boundaries.push(stream.len());
            }
            let mut records = Records::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                prop_assert_eq!(records.at_boundary(), boundaries.contains(&at), "at {}", at);
                if at == stream.len() {
                    break;
                }
                let end = (at + cut).min(stream.len());
                records.feed(&stream[at..end]);
                at = end;
            }
        }

        #[test]
        fn no_input_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Records::default().feed(&bytes);
        }
    }
}
