//! xz and zstd as Debian's tools write them: every level, limits on what a stream may ask for, odd but legal streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "data/artifact_writer.rs"]
mod artifact_writer;

use artifact_writer::*;
use thimble::artifact::Options;

/// Text and noise: something for every part of a compressor.
fn image(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut out = Vec::with_capacity(size + 64);
    while out.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 30 {
            0 => out.extend_from_slice(format!("line {} of the image\n", state >> 20).as_bytes()),
            1 => out.extend_from_slice(&state.to_le_bytes()),
            2 => out.extend(std::iter::repeat_n(b'-', (state >> 22) as usize & 63)),
            _ => out.extend_from_within(out.len().saturating_sub((state >> 12) as usize & 0xfff)..),
        }
        let most = size + 64;
        out.truncate(most);
    }
    out.truncate(size);
    out
}

fn recipe(pack: Pack, size: usize) -> Recipe {
    let scripts = vec![("ArtifactInstall_Enter_00".to_owned(), image(5000))];
    Recipe { pack, scripts, files: vec![("image".to_owned(), image(size))], ..Recipe::default() }
}

/// The Artifact with both containers packed by `pack`.
fn packed(recipe: &Recipe, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let [header, data] = [recipe.header_entries(), recipe.data_entries()].map(|entries| pack(&tar(&entries)));
    join(&recipe.parts_with(header, data))
}

#[track_caller]
fn good(recipe: &Recipe, bytes: &[u8]) {
    let seen = read(bytes).unwrap();
    assert!(seen.files == recipe.files && seen.scripts == recipe.scripts);
}

#[test]
fn every_level_and_form_of_zstd_is_read() {
    let recipe = recipe(Pack::Zstd, 700_000);
    let options: [&[&str]; 9] = [
        &["-1"],
        &["--fast=5"],
        &["-6"],
        &["-19"],
        &["-22", "--ultra", "--zstd=wlog=23"],
        &["--no-check"],
        &["-T2", "-B100KiB"],
        &["--rsyncable"],
        &["--long=23"],
    ];
    for options in options {
        good(&recipe, &packed(&recipe, |bytes| zstd(bytes, options)));
    }
    for size in [0, 1, 4096, 131_072, 131_073] {
        let recipe = self::recipe(Pack::Zstd, size);
        good(&recipe, &packed(&recipe, |bytes| zstd(bytes, &[])));
    }
}

#[test]
fn every_level_and_form_of_xz_is_read() {
    let recipe = recipe(Pack::Xz, 300_000);
    let options: [&[&str]; 9] = [
        &["-0"],
        &["-6"],
        &["-9e"],
        &["--check=none"],
        &["--check=crc32"],
        &["--check=sha256"],
        &["-T2", "--block-size=65536"],
        &["--arm", "--lzma2=dict=1MiB"],
        &["--delta=dist=4", "--x86", "--lzma2=dict=64KiB,lc=0,lp=2,pb=0"],
    ];
    for options in options {
        good(&recipe, &packed(&recipe, |bytes| xz(bytes, options)));
    }
}

#[test]
fn skippable_frames_and_stream_padding_are_skipped() {
    let recipe = recipe(Pack::Zstd, 1000);
    let skippable = |magic: u8, content: &[u8]| {
        let length = (content.len() as u32).to_le_bytes();
        [&[magic, 0x2a, 0x4d, 0x18][..], &length, content].concat()
    };
    let frames = |bytes: &[u8]| {
        [skippable(0x50, b"note"), zstd(bytes, &[]), skippable(0x5f, &[7; 70_000]), skippable(0x55, b"")]
            .concat()
    };
    good(&recipe, &packed(&recipe, frames));
    let cut = |bytes: &[u8]| [zstd(bytes, &[]), skippable(0x50, b"note")[..11].to_vec()].concat();
    refused(&packed(&recipe, cut), "ARTIFACT-COMPRESSION");

    let recipe = self::recipe(Pack::Xz, 1000);
    good(&recipe, &packed(&recipe, |bytes| [xz(bytes, &[]), vec![0; 8], xz(b"", &[]), vec![0; 4]].concat()));
    for bad in [&[0u8; 3][..], &[0, 0, 0, 0, 1]] {
        let bytes = packed(&recipe, |bytes| [&xz(bytes, &[])[..], bad].concat());
        refused(&bytes, "ARTIFACT-COMPRESSION");
    }
}

/// The limit is that of the configuration; the declared size counts, not what is used of it.
#[test]
fn a_window_or_dictionary_above_the_limit_is_refused_with_both_numbers() {
    let with = |bytes: &[u8], zstd: u64, xz: u64| {
        let options = Options { zstd_window_limit: zstd << 20, xz_memory_limit: xz << 20, ..NO_KEYS };
        read_with(bytes, &options).map(|_| ())
    };
    let small = recipe(Pack::Zstd, 1000);
    // From a pipe the size is not known: the frame declares the whole window.
    let bytes = packed(&small, |bytes| zstd(bytes, &["--long=24"]));
    with(&bytes, 16, 0).unwrap();
    let error = with(&bytes, 15, 0).unwrap_err();
    assert_eq!(error.code, "ARTIFACT-LIMIT");
    for word in ["header.tar.zst", "a window of 16 MiB", "is 15 MiB", "Artifact.ZstdWindowLimitMiB"] {
        assert!(error.text.contains(word), "{word}: {}", error.text);
    }
    // In the payload too, and there nothing was handed out.
    let parts = small.parts();
    let data = zstd_declaring(&tar(&small.data_entries()), 0x88);
    let bytes = join(&small.parts_with(parts[2].1.clone(), data));
    let mut opened = thimble::artifact::open(&bytes[..], &NO_KEYS).unwrap();
    let error = opened.payload.next_file().unwrap_err();
    assert!(error.text.contains("data/0000.tar.zst") && error.text.contains("128 MiB"), "{error}");

    let small = recipe(Pack::Xz, 1000);
    for (dictionary, declared) in
        [(29, "96 MiB"), (30, "128 MiB"), (39, "3072 MiB"), (40, "4294967295 bytes")]
    {
        let bytes = packed(&small, |bytes| xz_declaring(bytes, dictionary));
        let error = with(&bytes, 0, 64).unwrap_err();
        assert_eq!(error.code, "ARTIFACT-LIMIT", "{error}");
        for word in ["header.tar.xz", declared, "is 64 MiB", "Artifact.XzMemoryLimitMiB"] {
            assert!(error.text.contains(word), "{word}: {}", error.text);
        }
        // Declared, but not used: it costs nothing.
        if dictionary < 40 {
            with(&bytes, 0, 4095).unwrap();
        }
    }
}

#[test]
fn a_wrong_checksum_in_the_stream_is_found_even_behind_the_last_file() {
    for (pack, from_end) in [(Pack::Gzip, 6), (Pack::Zstd, 2), (Pack::Xz, 28)] {
        let recipe = recipe(pack, 1000);
        let mut parts = recipe.parts();
        let data = &mut parts[3].1;
        let at = data.len() - from_end;
        data[at] ^= 0x10;
        refused(&join(&parts), "ARTIFACT-COMPRESSION");
    }
}

#[test]
fn streams_that_are_not_what_their_name_says_are_refused() {
    let refusals = ["ARTIFACT-COMPRESSION", "ARTIFACT-TAR", "ARTIFACT-TRUNCATED"];
    for pack in PACKS {
        for other in PACKS {
            let recipe = recipe(pack, 1000);
            let bytes = packed(&recipe, |bytes| other.pack(bytes));
            match read(&bytes) {
                Ok(_) => assert_eq!(pack, other),
                Err(e) => assert!(refusals.contains(&e.code), "{e}"),
            }
            let empty = packed(&recipe, |_| Vec::new());
            let error = read(&empty).unwrap_err();
            assert!(refusals.contains(&error.code), "{error}");
        }
    }
}

#[test]
fn header_and_payload_may_be_packed_in_different_ways() {
    for one in PACKS {
        for other in PACKS {
            let recipe = recipe(one, 3000);
            let mut parts = recipe.parts();
            parts[3] = (format!("data/0000.tar{}", other.suffix()), other.pack(&tar(&recipe.data_entries())));
            good(&recipe, &join(&parts));
        }
    }
}

/// Gives at most so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = buffer.len().min(self.1);
        self.0.read(&mut buffer[..n])
    }
}

/// Some ends of members then fall on, before and behind the end of a piece, and of the decoder's own buffer.
#[test]
fn members_streams_and_frames_may_end_anywhere_in_what_was_read() {
    for pack in [Pack::Gzip, Pack::Xz, Pack::Zstd] {
        let recipe = Recipe {
            scripts: vec![("ArtifactInstall_Enter_00".to_owned(), image(20_000))],
            ..recipe(pack, 90_000)
        };
        let split = |bytes: &[u8]| {
            let (mut packed, mut rest, mut size) = (Vec::new(), bytes, 1);
            while !rest.is_empty() {
                let (part, more) = rest.split_at(rest.len().min(size));
                packed.extend(pack.pack(part));
                rest = more;
                size = size * 5 / 3 + 1;
                if size > 9000 {
                    size = 100;
                }
            }
            packed
        };
        let bytes = packed(&recipe, split);
        for piece in [1, 2, 3, 511, 512, 513, 4096, 16_383, 16_384, 16_385, usize::MAX] {
            let seen = read_with(Pieces(&bytes, piece), &NO_KEYS)
                .unwrap_or_else(|e| panic!("{pack:?} {piece}: {e}"));
            assert!(seen.files == recipe.files && seen.scripts == recipe.scripts, "{pack:?} {piece}");
        }
    }
}
