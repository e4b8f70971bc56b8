# Boots the slot in mender_boot_part. U-Boot itself counts (CONFIG_BOOTCOUNT_ENV) and runs altbootcmd at the limit.
echo "== boot part=${mender_boot_part} upgrade_available=${upgrade_available} bootcount=${bootcount}"
setenv bootargs "console=ttyAMA0 root=/dev/mmcblk0p${mender_boot_part} rootwait panic=1 quiet"
# After a reset the emulator still has code for this memory, and looks for it at each store: with these long stores that
# is over soon, with the bytes of unzip it takes 3 s.
mw.q ${kernel_addr_r} 0 0x400000
if load mmc 0:${mender_boot_part} ${kernel_gz_r} /boot/Image.gz && unzip ${kernel_gz_r} ${kernel_addr_r}; then
  load mmc 0:${mender_boot_part} ${ramdisk_addr_r} /boot/initrd.gz
  booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr}
fi
# A kernel that cannot be loaded counts as a boot that failed.
echo "== boot failed, reset"
reset
