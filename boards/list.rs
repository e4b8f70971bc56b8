//! The one list: a board that is not here is not known. Two lines for each, in the order of the alphabet.

use crate::Board;

#[path = "beaglebone/board.rs"]
mod beaglebone;
#[path = "orangepi-pc/board.rs"]
mod orangepi_pc;
#[path = "qemu-virt-aarch64/board.rs"]
mod qemu_virt_aarch64;
#[path = "qemu-virt-armv7/board.rs"]
mod qemu_virt_armv7;
#[path = "raspberrypi3/board.rs"]
mod raspberrypi3;
#[path = "verdin-imx8mm/board.rs"]
mod verdin_imx8mm;

/// Every board.
pub const ALL: &[&Board] = &[
    &beaglebone::BOARD,
    &orangepi_pc::BOARD,
    &qemu_virt_aarch64::BOARD,
    &qemu_virt_armv7::BOARD,
    &raspberrypi3::BOARD,
    &verdin_imx8mm::BOARD,
];
