//! The U-Boot environment image as a value: bytes in, variables out, and back. No I/O.
//!
//! | offset | single copy | redundant copy |
//! | --- | --- | --- |
//! | 0..4 | CRC32 (IEEE) of the data, little-endian | the same |
//! | 4 | data | flag, not covered by the CRC |
//! | 5 | | data |
//!
//! The data are `name=value` strings, each ended by NUL, the list ended by one more NUL, then filler up to the
//! size of the image (BE-60..62).

use crate::crc::crc32;
use crate::error::{Error, Result};

/// The largest image that is accepted, in bytes: far above every board's, and a bound for our memory.
pub const MAX_SIZE: usize = 4 << 20;
/// The smallest image that is accepted, in bytes: header, flag and an empty list, with some room.
pub const MIN_SIZE: usize = 16;

/// Whether the image begins with CRC and data, or with CRC, flag and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The only copy: no flag.
    Single,
    /// One of two copies.
    Redundant,
}

impl Layout {
    /// Bytes before the data.
    pub const fn header(self) -> usize {
        match self {
            Layout::Single => 4,
            Layout::Redundant => 5,
        }
    }
}

/// One decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The variables.
    pub env: Env,
    /// The flag byte; 0 for a single copy.
    pub flag: u8,
}

impl Image {
    /// Decodes one whole image.
    ///
    /// # Errors
    /// `BOOT-ENV-CORRUPT`: too short, wrong CRC, or no end of the list inside it (BE-60, BE-63).
    pub fn decode(image: &[u8], layout: Layout) -> Result<Image> {
        let corrupt = |text: String| Err(Error::new("BOOT-ENV-CORRUPT", text));
        let (Some(crc), Some(data)) = (image.first_chunk::<4>(), image.get(layout.header()..)) else {
            return corrupt(format!("{} bytes are too few for an environment", image.len()));
        };
        let (stored, actual) = (u32::from_le_bytes(*crc), crc32(&[data]));
        if stored != actual {
            return corrupt(format!("CRC is {actual:08x}, the image says {stored:08x}"));
        }
        let flag = match layout {
            Layout::Single => 0,
            Layout::Redundant => image.get(4).copied().unwrap_or(0),
        };
        Ok(Image { env: Env::parse(data)?, flag })
    }

    /// Encodes an image of `size` bytes.
    ///
    /// # Errors
    /// `BOOT-ENV-FULL` when the variables do not fit (BE-65).
    pub fn encode(&self, layout: Layout, size: usize) -> Result<Vec<u8>> {
        let (header, data) = (layout.header(), &self.env.data);
        let needed = header + data.len() + 1;
        if needed > size {
            let text = format!(
                "the boot environment has room for {size} bytes and would need {needed}; nothing was written. \
                 Remove variables that are not needed"
            );
            return Err(Error::new("BOOT-ENV-FULL", text));
        }
        let mut image = vec![self.env.filler; size];
        image[header..header + data.len()].copy_from_slice(data);
        image[header + data.len()] = 0;
        let crc = crc32(&[&image[header..]]);
        image[..4].copy_from_slice(&crc.to_le_bytes());
        if layout == Layout::Redundant {
            image[4] = self.flag;
        }
        Ok(image)
    }
}

/// The variables in their order. What is not changed stays as it is, byte for byte (BE-66), entries that we
/// cannot make sense of included.
#[derive(Clone, PartialEq, Eq)]
pub struct Env {
    /// The entries, each with its NUL; never an empty one.
    data: Vec<u8>,
    filler: u8,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries().map(String::from_utf8_lossy)).finish()
    }
}

impl Env {
    /// Takes the list from the data of an image.
    fn parse(data: &[u8]) -> Result<Env> {
        let mut end = 0;
        loop {
            match data[end..].iter().position(|b| *b == 0) {
                Some(0) => break,
                Some(n) => end += n + 1,
                None => {
                    let text = "the list of variables has no end inside the image";
                    return Err(Error::new("BOOT-ENV-CORRUPT", text));
                }
            }
        }
        // mkenvimage and erased flash fill with FF, U-Boot with 00. Nobody reads it; keep what is there.
        let filler = if data.last() == Some(&0xff) { 0xff } else { 0 };
        Ok(Env { data: data[..end].to_vec(), filler })
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.data.split_inclusive(|b| *b == 0).map(|e| &e[..e.len() - 1])
    }

    /// The value of a variable. Of duplicates the last one counts, as in U-Boot (BE-63).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries().filter_map(|e| value_of(e, name)).last()
    }

    /// All variables with their values, in the order of the image; entries without `=` are left out.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries().filter_map(|e| {
            let at = e.iter().position(|b| *b == b'=')?;
            Some((&e[..at], &e[at + 1..]))
        })
    }

    /// Sets a variable; an empty value removes it (as the boot loader's own tools do). Its place is kept, a new
    /// one goes to the end, duplicates of it go away. Returns whether anything changed.
    ///
    /// # Errors
    /// `BOOT-ENV-NAME` for a name or value that an environment cannot hold (BE-65); `BOOT-ENV-READONLY` when
    /// the environment's own `.flags` forbid the change (BE-64). Nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        check(name, value)?;
        let old = self.get(name);
        if old == Some(value.as_bytes()) || (old.is_none() && value.is_empty()) {
            return Ok(false);
        }
        self.check_flags(name)?;
        let mut entry = Vec::new();
        if !value.is_empty() {
            entry = format!("{name}={value}\0").into_bytes();
        }
        let mut data = Vec::with_capacity(self.data.len() + entry.len());
        for e in self.entries() {
            if value_of(e, name).is_some() {
                data.append(&mut entry); // The first of duplicates; later ones append nothing.
            } else {
                data.extend_from_slice(e);
                data.push(0);
            }
        }
        data.append(&mut entry);
        self.data = data;
        Ok(true)
    }

    /// `.flags` is `name:ta,name:ta...`: a type, and an access letter: a(ny), r(ead-only), o(nce), c(hange
    /// the default).
    fn check_flags(&self, name: &str) -> Result<()> {
        let flags = String::from_utf8_lossy(self.get(".flags").unwrap_or_default());
        let access = flags.split(',').filter_map(|f| f.trim().split_once(':')).find(|(n, _)| *n == name);
        let letter = access.and_then(|(_, a)| a.chars().nth(1));
        let forbidden = match letter {
            Some('r') => true,
            Some('o') => self.get(name).is_some(),
            _ => false,
        };
        if !forbidden {
            return Ok(());
        }
        let text = format!(
            "the boot environment's .flags make '{name}' read-only; nothing was written. Change \
             CONFIG_ENV_FLAGS_LIST_STATIC or .flags of the boot loader"
        );
        Err(Error::new("BOOT-ENV-READONLY", text))
    }
}

/// Refuses a name or value that no environment can hold (BE-65).
pub(super) fn check(name: &str, value: &str) -> Result<()> {
    let bad_name = name.is_empty() || name.contains(['=', '\0', '\n', '\r']);
    if bad_name || value.contains(['\0', '\n', '\r']) {
        let text = format!("variable {name:?} with value {value:?} cannot be stored in a boot environment");
        return Err(Error::new("BOOT-ENV-NAME", text));
    }
    Ok(())
}

/// The value, if this entry is the variable `name`.
fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
