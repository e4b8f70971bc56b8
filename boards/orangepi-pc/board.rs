//! Orange Pi PC (Allwinner H3), from its SD card.

use crate::{Board, EnvAt, Quirks};

/// Slots p2 and p3 of the card; the environment, twice, between U-Boot (8 KiB to 1 MiB) and p1.
pub const BOARD: Board = Board {
    name: "orangepi-pc",
    device_type: "orangepi-pc",
    compatible: &["xunlong,orangepi-pc"],
    machine: None,
    rootfs_a: "/dev/mmcblk0p2",
    rootfs_b: "/dev/mmcblk0p3",
    env: EnvAt::Raw { device: "/dev/mmcblk0", offset: 0x40_0000, redundant: Some(0x41_0000), size: 0x1_0000 },
    quirks: Quirks::NONE,
    emulated: true,
};
