//! Toradex Verdin iMX8M Mini, from its eMMC, with the environment in the eMMC's hardware boot partition. Never tried by us.

use crate::{Board, EnvAt, Quirks};

/// Slots p2 and p3 of the eMMC; the environment, once, 512 bytes before the end of the first boot partition.
pub const BOARD: Board = Board {
    name: "verdin-imx8mm",
    device_type: "verdin-imx8mm",
    // Linux, arch/arm64/boot/dts/freescale/imx8mm-verdin-*.dts: each ends in "toradex,verdin-imx8mm", "fsl,imx8mm".
    compatible: &["toradex,verdin-imx8mm"],
    machine: None,
    rootfs_a: "/dev/mmcblk0p2",
    rootfs_b: "/dev/mmcblk0p3",
    // U-Boot, configs/verdin-imx8mm_defconfig: CONFIG_ENV_IS_IN_MMC, CONFIG_SYS_MMC_ENV_PART=1 (boot0),
    // CONFIG_ENV_OFFSET=0xFFFFDE00 (-0x2200), CONFIG_ENV_SIZE=0x2000.
    env: EnvAt::Raw { device: "/dev/mmcblk0boot0", offset: -0x2200, redundant: None, size: 0x2000 },
    quirks: Quirks { write_protected: &["mmcblk0boot0"] },
    emulated: false,
};
