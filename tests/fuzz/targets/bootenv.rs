//! The boot environment: decoding, changing and encoding of one copy, the choice between two, and fw_env.config.
//!
//! The first byte is the mode: 0 fw_env.config as text, 1 one copy, 2 two copies (cut in the middle), and 3 two copies
//! that differ only in their flags. Then, but for the text, a byte whose bit 0 leaves the CRCs as they are, and two
//! flags.

use super::input;
use crate::boot::copies::{Scheme, newest, plan};
use crate::boot::env::{Image, Layout, MAX_SIZE, MIN_SIZE};
use crate::boot::fw_config;

pub(crate) fn run(data: &[u8]) {
    let (mode, rest) = input::byte(data);
    if mode & 3 == 0 {
        return config(rest);
    }
    let (how, rest) = input::byte(rest);
    let (first, rest) = input::byte(rest);
    let (second, rest) = input::byte(rest);
    let seal = how & 1 == 0;
    match mode & 3 {
        1 => one(&image(rest, Layout::Single, 0, seal), Layout::Single),
        2 => {
            let (a, b) = rest.split_at(rest.len() / 2);
            let size = a.len();
            two([
                image(a, Layout::Redundant, first, seal),
                image(&b[..size], Layout::Redundant, second, seal),
            ]);
        }
        _ => two([first, second].map(|flag| image(rest, Layout::Redundant, flag, seal))),
    }
}

/// An image with these data. Its CRC is right if it is to be, else the first four bytes.
fn image(data: &[u8], layout: Layout, flag: u8, seal: bool) -> Vec<u8> {
    if !seal {
        return data.to_vec();
    }
    let mut image = vec![0; 4];
    if layout == Layout::Redundant {
        image.push(flag);
    }
    image.extend_from_slice(data);
    let crc = crc32(data);
    image[..4].copy_from_slice(&crc.to_le_bytes());
    image
}

/// Written apart from the one under test; table driven, for speed.
fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut n = 0;
        while n < 16 {
            let (mut value, mut bit) = (n as u32, 0);
            while bit < 4 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[n] = value;
            n += 1;
        }
        table
    };
    !data.iter().fold(!0u32, |crc, byte| {
        let crc = crc ^ u32::from(*byte);
        let crc = TABLE[(crc & 15) as usize] ^ (crc >> 4);
        TABLE[(crc & 15) as usize] ^ (crc >> 4)
    })
}

/// One copy: what was read can be written, and what is not changed stays.
fn one(bytes: &[u8], layout: Layout) {
    let Ok(image) = Image::decode(bytes, layout) else { return };
    let again = image.encode(layout, bytes.len()).expect("it came from an image of that size");
    let list = variables(&image);
    let end = bytes.len() - layout.header();
    // Only the filler behind the end of the list may differ.
    let differs = again.iter().zip(bytes).skip(layout.header()).position(|(a, b)| a != b).unwrap_or(end);
    let used: usize = image.env.variables().map(|(name, value)| name.len() + value.len() + 2).sum();
    assert!(differs > used, "an entry was changed by decoding and encoding");
    assert_eq!(Image::decode(&again, layout).unwrap(), image);
    assert!(image.encode(layout, layout.header() + used).is_err(), "no room for the end of the list");
    for (name, value) in [("upgrade_available", "1"), ("bootcount", "0"), ("mender_boot_part", "2")] {
        set(&image, name, value, layout, bytes.len());
        set(&image, name, "", layout, bytes.len());
    }
    // A name of the list itself: its place is kept, its duplicates go.
    if let Some((name, value)) = list.first()
        && let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value))
    {
        set(&image, name, &value.to_uppercase(), layout, bytes.len());
    }
}

type List = Vec<(Vec<u8>, Vec<u8>)>;

fn variables(image: &Image) -> List {
    image.env.variables().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn set(image: &Image, name: &str, value: &str, layout: Layout, size: usize) {
    let mut changed = image.clone();
    let Ok(any) = changed.env.set(name, value) else {
        assert_eq!(&changed, image, "refused, but changed");
        return;
    };
    assert_eq!(any, &changed != image || image.env.get(name) != changed.env.get(name));
    let wanted = Some(value.as_bytes()).filter(|v| !v.is_empty());
    if any {
        assert_eq!(changed.env.get(name), wanted);
    } else {
        assert_eq!(image.env.get(name).filter(|v| !v.is_empty()), wanted);
    }
    let others = |image: &Image| -> List {
        variables(image).into_iter().filter(|(n, _)| n != name.as_bytes()).collect()
    };
    assert_eq!(others(&changed), others(image), "other variables");
    if let Ok(bytes) = changed.encode(layout, size) {
        assert_eq!(bytes.len(), size);
        assert_eq!(variables(&Image::decode(&bytes, layout).unwrap()), variables(&changed));
    }
}

/// Two copies: after a write, and after a power cut before, in or after it, either the old or the new one counts.
fn two(copies: [Vec<u8>; 2]) {
    let decode =
        |copies: &[Vec<u8>; 2]| [0, 1].map(|n: usize| Image::decode(&copies[n], Layout::Redundant).ok());
    copies.iter().for_each(|copy| one(copy, Layout::Redundant));
    let images = decode(&copies);
    for scheme in [Scheme::Incremental, Scheme::Boolean] {
        let Some(chosen) = newest(scheme, [0, 1].map(|n| images[n].as_ref().map(|i| i.flag))) else {
            assert_eq!(images, [None, None]);
            continue;
        };
        let old = images[chosen].clone().expect("only a good copy is chosen");
        let mut new = old.clone();
        if new.env.set("bootcount", "7").is_err() {
            continue;
        }
        let Ok(writes) = plan(scheme, chosen, &new, copies[chosen].len()) else { continue };
        assert_eq!(writes[0].copy, 1 - chosen, "the copy that counts must stay until the new one is whole");
        let mut now = copies.clone();
        for write in &writes {
            // The power goes off when half of the write is done.
            let mut torn = now.clone();
            let half = write.bytes.len() / 2;
            torn[write.copy][write.at..write.at + half].copy_from_slice(&write.bytes[..half]);
            counts(scheme, &decode(&torn), [&old, &new]);
            now[write.copy][write.at..write.at + write.bytes.len()].copy_from_slice(&write.bytes);
            counts(scheme, &decode(&now), [&old, &new]);
        }
        let last = decode(&now);
        let at = newest(scheme, [0, 1].map(|n| last[n].as_ref().map(|i| i.flag))).unwrap();
        let last = variables(last[at].as_ref().unwrap());
        assert_eq!(last, variables(&new), "{scheme:?}: the new one does not count");
    }
}

fn counts(scheme: Scheme, images: &[Option<Image>; 2], allowed: [&Image; 2]) {
    let at = newest(scheme, [0, 1].map(|n| images[n].as_ref().map(|i| i.flag))).expect("one is good");
    // Not the whole value: an image that is full to the last byte has no filler to remember.
    let found = variables(images[at].as_ref().unwrap());
    assert!(
        allowed.iter().any(|image| variables(image) == found),
        "{scheme:?}: neither the old nor the new one counts"
    );
}

fn config(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let Ok(areas) = fw_config::parse(&text) else { return };
    assert!((1..=2).contains(&areas.len()));
    let mut again = String::new();
    for area in &areas {
        assert!((MIN_SIZE..=MAX_SIZE).contains(&area.size));
        assert!(area.line.is_some_and(|line| (1..=text.lines().count()).contains(&line)));
        again.push_str(&format!("{} {} {:x}", area.device, area.offset, area.size));
        if let Some(sector) = area.sector_size {
            again.push_str(&format!(" {sector:x}"));
        }
        if let Some(count) = area.sectors {
            again.push_str(&format!(" {count:x}"));
        }
        again.push('\n');
    }
    if let [a, b] = areas.as_slice() {
        let size = a.size as u64;
        let same_end = (a.offset < 0) == (b.offset < 0);
        assert!(a.device != b.device || !same_end || a.offset.abs_diff(b.offset) >= size, "they overlap");
        assert_eq!(a.size, b.size);
    }
    let strip = |areas: Vec<fw_config::Area>| -> Vec<fw_config::Area> {
        areas.into_iter().map(|area| fw_config::Area { line: None, ..area }).collect()
    };
    assert_eq!(strip(fw_config::parse(&again).expect("our own form")), strip(areas));
}
