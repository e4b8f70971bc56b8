//! QEMU's `virt` machine, 64-bit, with an SD card on PCI and a U-Boot of our own that keeps two copies of its environment.

use crate::{Board, EnvAt, Quirks};

/// Slots p2 and p3 of the card; the environment between the partition table and p1.
pub const BOARD: Board = Board {
    name: "qemu-virt-aarch64",
    device_type: "qemu-virt-aarch64",
    compatible: &["linux,dummy-virt"],
    machine: Some("aarch64"), // the 32-bit one has the same `compatible`
    rootfs_a: "/dev/mmcblk0p2",
    rootfs_b: "/dev/mmcblk0p3",
    env: EnvAt::Raw { device: "/dev/mmcblk0", offset: 0x40_0000, redundant: Some(0x41_0000), size: 0x1_0000 },
    quirks: Quirks::NONE,
    emulated: true,
};
