//! What may be in the layers of images from elsewhere: the two things in them that can matter beyond their files.

use naru_base::{Error, Result};
use std::str::FromStr;

/// What is done with something in a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// It is unpacked as it is.
    #[default]
    Keep,
    /// It is left out.
    Strip,
    /// The layer is refused.
    Refuse,
}

/// What is done with what layers have, when they are pulled, loaded or imported. Blobs stay as they are, and so do digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Device nodes. Kept ones can be opened only by containers that are allowed to use the device.
    pub devices: Choice,
    /// Set-user-id and set-group-id bits of files, and file capabilities.
    pub setuid: Choice,
}

impl FromStr for ImagePolicy {
    type Err = Error;

    /// Reads `devices=refuse,setuid=strip`; what is not named is kept.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |part: &str| {
            Error::invalid(format!(
                "invalid image policy: {part}: use devices=keep|strip|refuse and setuid=keep|strip|refuse"
            ))
        };
        let mut policy = Self::default();
        for part in text.split(',') {
            let (what, choice) = part.split_once('=').ok_or_else(|| bad(part))?;
            let choice = match choice {
                "keep" => Choice::Keep,
                "strip" => Choice::Strip,
                "refuse" => Choice::Refuse,
                _ => return Err(bad(part)),
            };
            match what {
                "devices" => policy.devices = choice,
                "setuid" => policy.setuid = choice,
                _ => return Err(bad(part)),
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let read = |text: &str| text.parse::<ImagePolicy>();
        let want = ImagePolicy { devices: Choice::Refuse, setuid: Choice::Strip };
        assert_eq!(read("devices=refuse,setuid=strip").unwrap(), want);
        assert_eq!(read("setuid=keep").unwrap(), ImagePolicy::default());
        for text in ["", "devices", "devices=no", "fifos=keep"] {
            assert!(read(text).unwrap_err().message().starts_with("invalid image policy"), "{text}");
        }
    }
}
