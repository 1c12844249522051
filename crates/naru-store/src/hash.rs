//! Digests of streams and of bytes.

use naru_base::Digest;
use sha2::{Digest as _, Sha256};

/// The digest of what has been fed so far.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    state: Sha256,
    length: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// How many bytes were fed.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(&self.state.finalize().into())
    }
}

/// The digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

/// The chain id of a layer (image specification, config.md "Layer ChainID"): its own diff id when it is the first, else
/// the digest of `<parent's chain id> <diff id>`.
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => diff_id.clone(),
        Some(parent) => digest_of(format!("{parent} {diff_id}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_of_one_is_its_diff() {
        let diff = digest_of(b"a");
        assert_eq!(chain_id(None, &diff), diff);
        let text = format!("{diff} {diff}");
        assert_eq!(chain_id(Some(&diff), &diff), digest_of(text.as_bytes()));
    }

    #[test]
    fn streams_and_bytes_agree() {
        let mut hasher = Hasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.length(), 3);
        assert_eq!(hasher.finish(), digest_of(b"abc"));
        assert_eq!(digest_of(b"abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
