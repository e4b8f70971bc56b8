# Boots the slot in mender_boot_part. U-Boot itself counts (CONFIG_BOOTCOUNT_ENV) and runs altbootcmd at the limit.
echo "== boot part=${mender_boot_part} upgrade_available=${upgrade_available} bootcount=${bootcount}"
# rodata=off: changing the protection of each module's pages costs more than all the rest of the boot.
# cryptomgr.notests: self-tests of the kernel's algorithms are 1.5 s of an emulator.
setenv bootargs "console=ttyS0,115200 root=/dev/mmcblk0p${mender_boot_part} rootwait panic=1 quiet maxcpus=1 rodata=off cryptomgr.notests"
# Where zImage unpacks itself. After a reset the emulator still has code for this memory, and looks for it at each store:
# with these long stores that is over soon, with the bytes of the kernel's xz it takes 3 s.
mw.l 0x40008000 0 0x480000
if load mmc 0:${mender_boot_part} ${kernel_addr_r} /boot/zImage; then
  load mmc 0:${mender_boot_part} ${fdt_addr_r} /boot/board.dtb
  load mmc 0:${mender_boot_part} ${ramdisk_addr_r} /boot/initrd.gz
  bootz ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr_r}
fi
# A kernel that cannot be loaded counts as a boot that failed.
echo "== boot failed, reset"
reset
