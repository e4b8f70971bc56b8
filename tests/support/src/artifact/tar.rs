//! A tar writer (ustar), as much as an Artifact needs.

use std::io::{self, Read, Seek, SeekFrom, Write};

const BLOCK: u64 = 512;

/// Appends entries to `out`.
pub(crate) struct TarWriter<W: Write> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> TarWriter<W> {
        TarWriter { out }
    }

    /// One regular file of exactly `size` bytes.
    pub(crate) fn append(&mut self, name: &str, mode: u32, size: u64, mut data: impl Read) -> io::Result<()> {
        self.out.write_all(&header(name, mode, size)?)?;
        let copied = io::copy(&mut data.by_ref().take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{name} has {copied} bytes, not {size}"),
            ));
        }
        pad(&mut self.out, size)
    }

    /// The end mark: two empty blocks.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.out)
    }
}

impl<W: Write + Seek> TarWriter<W> {
    /// One file whose size is known only after it was written.
    pub(crate) fn append_unsized(
        &mut self,
        name: &str,
        mode: u32,
        write: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        let head = self.out.stream_position()?;
        self.out.write_all(&[0; BLOCK as usize])?;
        write(&mut self.out)?;
        let size = self.out.stream_position()? - head - BLOCK;
        pad(&mut self.out, size)?;
        let end = self.out.stream_position()?;
        self.out.seek(SeekFrom::Start(head))?;
        self.out.write_all(&header(name, mode, size)?)?;
        self.out.seek(SeekFrom::Start(end))?;
        Ok(())
    }
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = (BLOCK - size % BLOCK) % BLOCK;
    out.write_all(&[0; BLOCK as usize][..rest as usize])
}

fn header(name: &str, mode: u32, size: u64) -> io::Result<[u8; BLOCK as usize]> {
    if name.len() > 100 || size >= 8 << 30 {
        let text =
            format!("{name} ({size} bytes) needs an extended tar header: not supported by this writer");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0{size:011o}\0{:011o}\0", 0, 0, 0).as_bytes());
    put(148, b"        0");
    put(257, b"ustar\x0000root");
    put(297, b"root");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn sizes_known_and_unknown_give_the_same_bytes() {
        let data = vec![7u8; 700];
        let mut known = TarWriter::new(Vec::new());
        known.append("file", 0o644, 700, data.as_slice()).unwrap();
        let mut unknown = TarWriter::new(Cursor::new(Vec::new()));
        unknown.append_unsized("file", 0o644, |out| out.write_all(&data)).unwrap();
        let known = known.finish().unwrap();
        assert_eq!(known, unknown.finish().unwrap().into_inner());
        assert_eq!(known.len(), 512 + 1024 + 1024);
    }

    #[test]
    fn short_data_and_long_names_are_refused() {
        let mut tar = TarWriter::new(Vec::new());
        assert!(tar.append("file", 0o644, 10, &b"short"[..]).is_err());
        assert!(tar.append(&"n".repeat(101), 0o644, 0, &b""[..]).is_err());
    }
}
