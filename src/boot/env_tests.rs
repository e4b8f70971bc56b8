//! Promises of the codec and of the choice between two copies.

use super::*;
use crate::boot::copies::{Scheme, Write, newest, plan};

const SIZE: usize = 0x100;

fn image(layout: Layout, flag: u8, data: &[u8], filler: u8) -> Vec<u8> {
    let mut image = vec![filler; SIZE];
    let at = layout.header();
    image[at..at + data.len()].copy_from_slice(data);
    let crc = crc32(&[&image[at..]]);
    image[..4].copy_from_slice(&crc.to_le_bytes());
    if layout == Layout::Redundant {
        image[4] = flag;
    }
    image
}

fn env(data: &[u8]) -> Env {
    Image::decode(&image(Layout::Redundant, 1, data, 0xff), Layout::Redundant).expect("good").env
}

#[test]
fn the_documented_image_has_the_documented_crc() {
    // BE-62: mkenvimage -r -s 0x4000
    let data =
        b"bootcount=0\0bootlimit=1\0mender_boot_part=2\0mender_boot_part_hex=2\0upgrade_available=0\0\0";
    let mut bytes = vec![0xff; 0x4000];
    bytes[..5].copy_from_slice(&[0x75, 0x2f, 0x18, 0x86, 1]);
    bytes[5..5 + data.len()].copy_from_slice(data);
    let image = Image::decode(&bytes, Layout::Redundant).expect("decodes");
    assert_eq!(image.flag, 1);
    assert_eq!(image.env.get("mender_boot_part"), Some(&b"2"[..]));
    assert_eq!(image.encode(Layout::Redundant, 0x4000).expect("encodes"), bytes);
}

#[test]
fn what_is_not_changed_stays_byte_for_byte() {
    let data = b"z=1\0no separator\0=odd\0.flags=a:sw\0utf=\xc3\xa4\xff\0eq=a=b=c\0a=1\0empty=\0\0";
    for (layout, filler) in
        [(Layout::Single, 0), (Layout::Single, 0xff), (Layout::Redundant, 0), (Layout::Redundant, 0xff)]
    {
        let bytes = image(layout, 7, data, filler);
        let mut decoded = Image::decode(&bytes, layout).expect("decodes");
        assert_eq!(decoded.encode(layout, SIZE).expect("encodes"), bytes);
        assert!(decoded.env.set("a", "22").expect("sets"));
        assert!(decoded.env.set("new", "x=y").expect("sets"));
        let mut expected = data.to_vec();
        let at = expected.len() - b"1\0empty=\0\0".len();
        expected.splice(at..=at, *b"22");
        expected.pop();
        expected.extend_from_slice(b"new=x=y\0\0");
        assert_eq!(decoded.encode(layout, SIZE).expect("encodes"), image(layout, 7, &expected, filler));
        assert_eq!(decoded.env.get("eq"), Some(&b"a=b=c"[..]));
        assert_eq!(decoded.env.get("no separator"), None);
    }
}

#[test]
fn the_last_of_duplicates_counts_and_a_change_leaves_one() {
    let mut env = env(b"a=1\0b=2\0a=3\0aa=4\0\0");
    assert_eq!(env.get("a"), Some(&b"3"[..]));
    assert!(!env.set("a", "3").expect("sets"));
    assert!(env.set("a", "5").expect("sets"));
    assert_eq!(env.data, b"a=5\0b=2\0aa=4\0");
    assert!(env.set("a", "").expect("removes"));
    assert!(!env.set("a", "").expect("is away"));
    assert_eq!(env.data, b"b=2\0aa=4\0");
}

#[test]
fn hostile_images_are_refused() {
    let good = image(Layout::Redundant, 1, b"a=1\0\0", 0xff);
    for (what, bytes) in [
        ("empty", vec![]),
        ("three bytes", vec![0; 3]),
        ("four bytes", vec![0; 4]),
        ("header only, with the CRC of nothing", vec![0; 5]),
        ("one byte short", good[..SIZE - 1].to_vec()),
        ("one byte long", [good.as_slice(), &[0xff]].concat()),
        ("all FF", vec![0xff; SIZE]),
        ("all zero", vec![0; SIZE]),
        ("no terminator, right CRC", image(Layout::Redundant, 1, &[b'a'; SIZE - 5], 0)),
        ("FF only, right CRC", image(Layout::Redundant, 1, &[0xff; SIZE - 5], 0)),
        ("last entry ends the image, no empty one", {
            let mut data = [b'a'; SIZE - 5];
            data[SIZE - 6] = 0;
            image(Layout::Redundant, 1, &data, 0)
        }),
    ] {
        let error = Image::decode(&bytes, Layout::Redundant).expect_err(what);
        assert_eq!(error.code, "BOOT-ENV-CORRUPT", "{what}");
    }
    for bit in 0..SIZE * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let is_flag = bit / 8 == 4; // Not covered by the CRC.
        assert_eq!(Image::decode(&bytes, Layout::Redundant).is_ok(), is_flag, "bit {bit}");
    }
}

#[test]
fn all_zero_with_the_right_crc_is_an_environment_without_variables() {
    let mut zero = Image::decode(&image(Layout::Single, 0, b"", 0), Layout::Single).expect("good");
    assert_eq!(zero.env.variables().count(), 0);
    assert!(zero.env.set("a", "1").expect("sets"));
    let bytes = zero.encode(Layout::Single, SIZE).expect("encodes");
    assert_eq!(bytes, image(Layout::Single, 0, b"a=1\0\0", 0));
}

#[test]
fn random_bytes_never_panic_and_never_decode() {
    let mut state = 1u64;
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let _ = Image::decode(&bytes, Layout::Single);
        let _ = Env::parse(&bytes).map(|env| env.variables().count());
    }
}

#[test]
fn an_image_is_filled_to_the_last_byte_and_not_further() {
    let mut full = Image { env: env(b"\0"), flag: 1 };
    // 5 header, "v=", value, NUL, NUL
    full.env.set("v", &"x".repeat(SIZE - 9)).expect("sets");
    let bytes = full.encode(Layout::Redundant, SIZE).expect("fits exactly");
    assert_eq!(Image::decode(&bytes, Layout::Redundant).expect("decodes").env.data, full.env.data);
    full.env.set("v", &"x".repeat(SIZE - 8)).expect("sets");
    assert_eq!(full.encode(Layout::Redundant, SIZE).expect_err("is full").code, "BOOT-ENV-FULL");
}

#[test]
fn names_and_values_that_an_environment_cannot_hold_are_refused() {
    let mut env = env(b"a=1\0\0");
    for (name, value) in [("", "1"), ("a=b", "1"), ("a\0", "1"), ("a", "1\0"), ("a", "1\n2"), ("a\n", "1")] {
        assert_eq!(env.set(name, value).expect_err("refused").code, "BOOT-ENV-NAME");
    }
    assert_eq!(env.data, b"a=1\0");
}

#[test]
fn flags_of_the_environment_protect_its_variables() {
    let mut env = env(b"ro=1\0once=1\0any=1\0.flags=ro:sr,once:do,any:sa,unset:so\0\0");
    assert_eq!(env.set("ro", "2").expect_err("read-only").code, "BOOT-ENV-READONLY");
    assert_eq!(env.set("once", "2").expect_err("write once").code, "BOOT-ENV-READONLY");
    assert!(!env.set("ro", "1").expect("no change is no write"));
    for name in ["any", "unset", "unknown"] {
        assert!(env.set(name, "2").expect(name));
    }
}

#[test]
fn the_newest_good_copy_counts_across_the_wrap_of_the_counter() {
    use Scheme::{Boolean, Incremental};
    for (scheme, first, second, expected) in [
        (Incremental, 1, 1, 0),
        (Incremental, 1, 2, 1),
        (Incremental, 2, 1, 0),
        (Incremental, 255, 0, 1),
        (Incremental, 0, 255, 0),
        (Incremental, 254, 255, 1),
        (Incremental, 0, 0, 0),
        (Incremental, 254, 0, 0),
        (Boolean, 1, 0, 0),
        (Boolean, 0, 1, 1),
        (Boolean, 1, 1, 0),
        (Boolean, 0, 0, 0),
        (Boolean, 0xff, 1, 0),
        (Boolean, 1, 0xff, 1),
        (Boolean, 0xff, 0xff, 0),
    ] {
        assert_eq!(
            newest(scheme, [Some(first), Some(second)]),
            Some(expected),
            "{scheme:?} {first} {second}"
        );
        assert_eq!(newest(scheme, [Some(first), None]), Some(0));
        assert_eq!(newest(scheme, [None, Some(second)]), Some(1));
    }
    assert_eq!(newest(Incremental, [None, None]), None);
}

/// What the boot loader finds in two copies.
fn boot(scheme: Scheme, copies: &[Vec<u8>; 2]) -> (usize, Image) {
    let images: Vec<_> = copies.iter().map(|c| Image::decode(c, Layout::Redundant).ok()).collect();
    let flags = [images[0].as_ref().map(|i| i.flag), images[1].as_ref().map(|i| i.flag)];
    let chosen = newest(scheme, flags).expect("one copy is good after every cut");
    (chosen, images[chosen].clone().expect("chosen"))
}

#[test]
fn a_write_cut_at_every_byte_leaves_the_old_or_the_new_set() {
    let old_data = b"bootcount=7\0mender_boot_part=2\0upgrade_available=0\0\0";
    for scheme in [Scheme::Incremental, Scheme::Boolean] {
        for (first, second) in [(1u8, 0u8), (0, 1), (1, 1), (255, 0), (0, 255), (254, 255)] {
            let second_data = b"mender_boot_part=9\0\0"; // an older set, or the same age
            let copies = [
                image(Layout::Redundant, first, old_data, 0xff),
                image(Layout::Redundant, second, second_data, 0),
            ];
            let (chosen, old) = boot(scheme, &copies);
            let mut new = old.clone();
            for (name, value) in [("bootcount", "0"), ("mender_boot_part", "3"), ("upgrade_available", "1")] {
                new.env.set(name, value).expect("sets");
            }
            let writes = plan(scheme, chosen, &new, SIZE).expect("fits");
            let total: usize = writes.iter().map(|w| w.bytes.len()).sum();
            let mut turned = 0;
            for cut in 0..=total {
                let mut copies = copies.clone();
                let mut left = cut;
                for Write { copy, at, bytes } in &writes {
                    let n = bytes.len().min(left);
                    copies[*copy][*at..at + n].copy_from_slice(&bytes[..n]);
                    left -= n;
                }
                let (_, found) = boot(scheme, &copies);
                assert!(found.env == old.env || found.env == new.env, "{scheme:?} cut {cut}: {found:?}");
                turned += usize::from(found.env == new.env);
            }
            assert!(turned >= 1, "the whole write makes the new set count");
        }
    }
}
