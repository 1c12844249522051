//! The kernel's version, as far as profiles ask for it.

/// Major and minor number of a kernel release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// That of the running kernel (uname(2)); 0.0 if it can't be read.
    pub fn host() -> Self {
        let uname = rustix::system::uname();
        uname.release().to_str().ok().and_then(Self::parse).unwrap_or(Self { major: 0, minor: 0 })
    }

    /// `6.18.5-generic`, `4.8`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest.get(..end)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let version = |text| KernelVersion::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(version("6.18.5-generic"), Some((6, 18)));
        assert_eq!(version("4.8"), Some((4, 8)));
        assert_eq!((version("x"), version("5"), version("5.x")), (None, None, None));
        assert!(KernelVersion::parse("4.10") > KernelVersion::parse("4.8"));
        assert!(KernelVersion::host().major >= 5);
    }
}
