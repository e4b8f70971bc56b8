//! Taking an input apart, and putting archives together.

/// The first byte, 0 if there is none, and the rest.
pub(crate) fn byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Gives its bytes in pieces of at most `most`, as a network does.
pub(crate) struct Pieces<'a> {
    pub(crate) left: &'a [u8],
    pub(crate) most: usize,
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.most.max(1)).min(self.left.len());
        let (now, later) = self.left.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.left = later;
        Ok(count)
    }
}

/// A tar block with its checksum.
pub(crate) fn block(name: &[u8], size: u64, kind: u8) -> [u8; 512] {
    let mut block = [0; 512];
    let length = name.len().min(100);
    block[..length].copy_from_slice(&name[..length]);
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Puts the right checksum into a block.
pub(crate) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Puts the right checksum into whatever looks like a header block, so that mutations get past it.
pub(crate) fn seal_all(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|b| &b[257..262] == b"ustar") {
        seal(block);
    }
}

/// An entry: block, content, padding. A name longer than 100 bytes goes into a PAX record.
pub(crate) fn entry(out: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    if name.len() > 100 {
        let (mut record, mut length) = (Vec::new(), 0);
        while record.len() != length || length == 0 {
            length = record.len().max(1);
            record = [format!("{length} path=").as_bytes(), name, b"\n"].concat();
        }
        out.extend_from_slice(&block(b"pax", record.len() as u64, b'x'));
        padded(out, &record);
    }
    out.extend_from_slice(&block(name, content.len() as u64, b'0'));
    padded(out, content);
}

fn padded(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}
