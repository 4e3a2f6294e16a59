//! Where the members of a tar archive lie: POSIX and GNU headers, long names included.

use kdm_data::Result;
use kdm_data::region::Region;

const BLOCK: u64 = 512;
/// Bytes that a name or a list of attributes may have.
const MOST_NAME: u64 = 1 << 16;
const ACTION: &str = "copy or write the archive again, whole and uncompressed";

/// A regular file in an archive.
pub struct Member {
    /// Its name, folders and all.
    pub name: String,
    /// Where its bytes begin.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// Whether the region begins as a tar archive does.
pub fn is_tar(region: &Region) -> bool {
    let mut magic = [0; 5];
    region.read_at(257, &mut magic).is_ok() && &magic == b"ustar"
}

/// The members of an archive, one after the other.
pub struct Members<'a> {
    region: &'a Region,
    at: u64,
}

impl<'a> Members<'a> {
    /// The members of `region`.
    pub fn of(region: &'a Region) -> Self {
        Self { region, at: 0 }
    }

    /// The next regular file; none at the archive's end.
    ///
    /// # Errors
    /// When a header is damaged or a member reaches beyond the file.
    pub fn next(&mut self) -> Result<Option<Member>> {
        let (mut long_name, mut long_size) = (None, None);
        loop {
            let mut header = [0u8; BLOCK as usize];
            if self.at + BLOCK > self.region.len() {
                return Err(self.region.invalid("is cut short, without an archive's end", ACTION));
            }
            self.region.read_at(self.at, &mut header)?;
            if header.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let (region, at) = (self.region, self.at);
            let bad = |problem: &str| region.invalid(format!("{problem} at byte {at}"), ACTION);
            if !checks(&header) {
                return Err(bad("has a damaged tar header"));
            }
            let size = long_size.take().or(number(&header[124..136]));
            let size = size.ok_or_else(|| bad("has a tar header without a size"))?;
            let start = self.at + BLOCK;
            let end = start.checked_add(size).filter(|end| *end <= self.region.len());
            let end = end.ok_or_else(|| bad("is cut short within the member"))?;
            self.at = end.next_multiple_of(BLOCK);
            match header[156] {
                // A long name, or a list of attributes, of the next member.
                b'L' | b'x' => {
                    if size > MOST_NAME {
                        return Err(bad("has a name that is too long"));
                    }
                    let mut bytes = vec![0; size as usize];
                    self.region.read_at(start, &mut bytes)?;
                    if header[156] == b'L' {
                        long_name = Some(text(&bytes));
                    } else {
                        for (key, value) in attributes(&bytes) {
                            match key.as_str() {
                                "path" => long_name = Some(value),
                                "size" => long_size = value.parse().ok(),
                                _ => {}
                            }
                        }
                    }
                }
                b'0' | b'7' | 0 => {
                    let name = long_name.take().unwrap_or_else(|| short_name(&header));
                    return Ok(Some(Member { name, start, size }));
                }
                _ => (long_name, long_size) = (None, None),
            }
        }
    }
}

/// Whether the header's sum is the one it tells, with the sum's own field as spaces.
fn checks(header: &[u8; BLOCK as usize]) -> bool {
    let own = 148..156;
    let byte = |(i, byte): (usize, &u8)| u64::from(if own.contains(&i) { b' ' } else { *byte });
    number(&header[own.clone()]) == Some(header.iter().enumerate().map(byte).sum())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn short_name(header: &[u8]) -> String {
    let prefix = if &header[257..262] == b"ustar" && header[262] == 0 {
        text(&header[345..500])
    } else {
        String::new()
    };
    let name = text(&header[..100]);
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// A number in octal digits, or in binary where the first bit says so.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let last = field.last_chunk::<8>()?;
        return Some(u64::from_be_bytes(*last));
    }
    let digits = std::str::from_utf8(field).ok()?;
    let digits = digits.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The attributes "length key=value\n" of a POSIX header.
fn attributes(bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|n| n.parse().ok());
        let Some(length) = length.filter(|n| *n > space + 1 && *n <= rest.len()) else { break };
        let line = text(&rest[space + 1..length]);
        if let Some((key, value)) = line.trim_end_matches('\n').split_once('=') {
            found.push((key.to_string(), value.to_string()));
        }
        rest = &rest[length..];
    }
    found
}
