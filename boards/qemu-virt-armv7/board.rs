//! QEMU's `virt` machine, 32-bit, with a virtio disk and Debian's U-Boot, which knows one copy of the environment.

use crate::{Board, EnvAt, Quirks};

/// Slots 2 and 3 of the disk; the environment between the partition table and partition 1.
pub const BOARD: Board = Board {
    name: "qemu-virt-armv7",
    device_type: "qemu-virt-armv7",
    compatible: &["linux,dummy-virt"],
    machine: Some("arm"), // armv7l; the 64-bit one has the same `compatible`
    rootfs_a: "/dev/vda2",
    rootfs_b: "/dev/vda3",
    env: EnvAt::Raw { device: "/dev/vda", offset: 0x40_0000, redundant: None, size: 0x1_0000 },
    quirks: Quirks::NONE,
    emulated: true,
};
