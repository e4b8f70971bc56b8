//! BeagleBone and BeagleBone Black (TI AM335x), from the SD card, as Mender's Yocto layer lays it out. Never tried by us.

use crate::{Board, EnvAt, Quirks};

/// Slots p2 and p3 of the card; the environment, twice, in front of p1.
pub const BOARD: Board = Board {
    name: "beaglebone",
    device_type: "beaglebone",
    // Linux, arch/arm/boot/dts/ti/omap/am335x-boneblack.dts: "ti,am335x-bone-black", "ti,am335x-bone", "ti,am33xx".
    // The Green names "ti,am335x-bone-black" too. "ti,am33xx" is the chip, which other boards have as well.
    compatible: &["ti,am335x-bone-black", "ti,am335x-bone"],
    machine: None,
    // meta-mender: MENDER_STORAGE_DEVICE_DEFAULT "/dev/mmcblk0", MENDER_ROOTFS_PART_A_NUMBER 2, _B_NUMBER 3.
    rootfs_a: "/dev/mmcblk0p2",
    rootfs_b: "/dev/mmcblk0p3",
    // meta-mender: partition alignment 8 MiB, BOOTENV_SIZE 0x20000; the copies are the first two aligned blocks (BE-8).
    env: EnvAt::Raw {
        device: "/dev/mmcblk0",
        offset: 0x80_0000,
        redundant: Some(0x100_0000),
        size: 0x2_0000,
    },
    quirks: Quirks::NONE,
    emulated: false,
};
