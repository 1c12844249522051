//! Detach keys: a sequence typed at a terminal that disconnects the client and leaves the process running.

/// Looks for the keys in what a client types, and withholds a beginning of them until it is clear that they don't follow.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of the keys the input's end matches; these bytes are withheld.
    held: usize,
}

impl DetachKeys {
    /// Looks for `keys`; none are never found.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    /// Takes input; what goes on to the process is appended to `out`. True when the keys are complete: what follows them is dropped.
    pub(crate) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.keys[self.held] != byte && self.held > 0 {
                let shorter = self.longest_border();
                out.extend_from_slice(&self.keys[..self.held - shorter]);
                self.held = shorter;
            }
            if self.keys[self.held] == byte {
                self.held += 1;
            } else {
                out.push(byte);
            }
            if self.held == self.keys.len() {
                self.held = 0;
                return true;
            }
        }
        false
    }

    /// The input has ended: what was withheld goes on after all.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keys[..self.held]);
        self.held = 0;
    }

    /// The longest proper beginning of the keys that the held part ends with. Keys are few: no table is worth it.
    fn longest_border(&self) -> usize {
        let held = &self.keys[..self.held];
        (1..self.held).rev().find(|n| held.ends_with(&self.keys[..*n])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What gets through, and whether the keys were found.
    fn run(keys: &[u8], chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = DetachKeys::new(keys.to_vec());
        let mut out = Vec::new();
        for chunk in chunks {
            if detach.feed(chunk, &mut out) {
                return (out, true);
            }
        }
        detach.end(&mut out);
        (out, false)
    }

    #[test]
    fn the_keys_are_found_whole_and_in_pieces() {
        assert_eq!(run(b"\x10\x11", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(run(b"\x10\x11", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(run(b"\x10\x11", &[b"\x10", b"\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run(b"\x10\x11", &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(run(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(run(b"", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }

    proptest! {
        #[test]
        fn agrees_with_a_search(keys in proptest::collection::vec(0u8..3, 1..5),
                                input in proptest::collection::vec(0u8..3, 0..40), cut in 0usize..40) {
            let at = input.windows(keys.len()).position(|w| w == keys);
            let (head, tail) = input.split_at(cut.min(input.len()));
            let expected = (at.map_or(&input[..], |at| &input[..at]).to_vec(), at.is_some());
            prop_assert_eq!(run(&keys, &[head, tail]), expected);
        }
    }
}
