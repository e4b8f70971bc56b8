//! Raspberry Pi 3 Model B and B+, from its SD card, with Debian's U-Boot (u-boot-rpi), 64-bit or 32-bit.

use crate::{Board, EnvAt, Quirks};

/// Slots p2 and p3 of the card; the environment is a file on p1, the FAT with the firmware.
pub const BOARD: Board = Board {
    name: "raspberrypi3",
    device_type: "raspberrypi3",
    compatible: &["raspberrypi,3-model-b", "raspberrypi,3-model-b-plus"],
    machine: None,
    rootfs_a: "/dev/mmcblk0p2",
    rootfs_b: "/dev/mmcblk0p3",
    // CONFIG_ENV_IS_IN_FAT, CONFIG_ENV_FAT_DEVICE_AND_PART "0:1", CONFIG_ENV_SIZE 0x4000; one copy.
    env: EnvAt::File {
        path: "/boot/firmware/uboot.env",
        redundant: None,
        size: 0x4000,
        partition: "/dev/mmcblk0p1",
    },
    quirks: Quirks::NONE,
    emulated: true,
};
