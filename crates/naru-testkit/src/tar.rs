//! A tar writer that writes exactly what it is told, hostile names included.

/// An archive in the making: POSIX ustar, with pax headers where they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// One entry's head.
#[derive(Clone, Debug)]
struct Head<'a> {
    name: &'a str,
    mode: u32,
    owner: (u32, u32),
    size: usize,
    kind: u8,
    link: &'a str,
    device: (u32, u32),
}

impl Tar {
    /// An empty one.
    pub fn new() -> Tar {
        Tar::default()
    }

    /// Adds a folder.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Tar {
        self.dir_of(name, mode, (0, 0))
    }

    /// Adds a folder with an owner.
    #[must_use]
    pub fn dir_of(mut self, name: &str, mode: u32, owner: (u32, u32)) -> Tar {
        self.head(&Head { name, mode, owner, size: 0, kind: b'5', link: "", device: (0, 0) });
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Tar {
        self.file_of(name, mode, (0, 0), content)
    }

    /// Adds a file with an owner.
    #[must_use]
    pub fn file_of(mut self, name: &str, mode: u32, owner: (u32, u32), content: &[u8]) -> Tar {
        self.head(&Head { name, mode, owner, size: content.len(), kind: b'0', link: "", device: (0, 0) });
        self.content(content);
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(mut self, name: &str, to: &str) -> Tar {
        self.head(&Head { name, mode: 0o777, owner: (0, 0), size: 0, kind: b'2', link: to, device: (0, 0) });
        self
    }

    /// Adds another name for an earlier entry.
    #[must_use]
    pub fn hardlink(mut self, name: &str, to: &str) -> Tar {
        self.head(&Head { name, mode: 0o644, owner: (0, 0), size: 0, kind: b'1', link: to, device: (0, 0) });
        self
    }

    /// Adds a character device.
    #[must_use]
    pub fn char_device(mut self, name: &str, mode: u32, device: (u32, u32)) -> Tar {
        self.head(&Head { name, mode, owner: (0, 0), size: 0, kind: b'3', link: "", device });
        self
    }

    /// Adds a pax header for the next entry: `key=value` records such as `SCHILY.xattr.user.x=1`.
    #[must_use]
    pub fn pax(mut self, records: &[(&str, &str)]) -> Tar {
        let text: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
        let size = text.len();
        self.head(&Head { name: "pax", mode: 0o644, owner: (0, 0), size, kind: b'x', link: "", device: (0, 0) });
        self.content(text.as_bytes());
        self
    }

    /// The archive with its two closing blocks.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    fn content(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn head(&mut self, head: &Head<'_>) {
        let mut block = [0_u8; 512];
        let (prefix, name) = split_name(head.name);
        put(&mut block[0..100], name.as_bytes());
        put(&mut block[100..108], format!("{:07o}", head.mode).as_bytes());
        put(&mut block[108..116], format!("{:07o}", head.owner.0).as_bytes());
        put(&mut block[116..124], format!("{:07o}", head.owner.1).as_bytes());
        put(&mut block[124..136], format!("{:011o}", head.size).as_bytes());
        put(&mut block[136..148], format!("{:011o}", 1_700_000_000).as_bytes());
        block[148..156].fill(b' ');
        block[156] = head.kind;
        put(&mut block[157..257], head.link.as_bytes());
        put(&mut block[257..265], b"ustar\x0000");
        put(&mut block[329..337], format!("{:07o}", head.device.0).as_bytes());
        put(&mut block[337..345], format!("{:07o}", head.device.1).as_bytes());
        put(&mut block[345..500], prefix.as_bytes());
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        put(&mut block[148..156], format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
    }
}

/// Copies `text` into a field, cut to its size.
fn put(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// A long name as ustar's prefix and name.
fn split_name(name: &str) -> (&str, &str) {
    if name.len() <= 100 {
        return ("", name);
    }
    let mut cut =
        name.char_indices().filter(|&(at, c)| c == '/' && at <= 155 && name.len() - at <= 101).map(|(at, _)| at);
    match cut.next_back() {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    }
}

/// `length key=value\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_count_themselves() {
        assert_eq!(pax_record("a", "b"), "6 a=b\n");
        assert_eq!(pax_record("path", "12345"), "14 path=12345\n");
        for n in 0..200 {
            let record = pax_record("k", &"v".repeat(n));
            assert_eq!(record.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn gnu_tar_reads_it() {
        let folder = std::env::temp_dir().join(crate::unique("kit-tar"));
        std::fs::create_dir_all(&folder).unwrap();
        let long = format!("{}/f", "d".repeat(120));
        let tar = Tar::new().dir("a", 0o755).file("a/f", 0o640, b"hello").symlink("a/l", "f").hardlink("a/h", "a/f");
        let tar = tar.dir(&"d".repeat(120), 0o700).file(&long, 0o600, &[7; 1000]);
        std::fs::write(folder.join("t.tar"), tar.finish()).unwrap();
        let list = std::process::Command::new("tar").arg("-tf").arg(folder.join("t.tar")).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        assert_eq!(list.lines().count(), 6, "{list}");
        assert!(list.contains(&long), "{list}");
    }
}
