# Counts the boot, and boots the slot in mender_boot_part.
test -n "${mender_boot_part}" || setenv mender_boot_part 2
test -n "${bootlimit}" || setenv bootlimit 1
test -n "${bootcount}" || setenv bootcount 0
test -n "${upgrade_available}" || setenv upgrade_available 0
if test "${upgrade_available}" = "1"; then
  setexpr bootcount ${bootcount} + 1
  if test ${bootcount} -gt ${bootlimit}; then
    echo "== bootcount ${bootcount} > bootlimit ${bootlimit}: back"
    if test "${mender_boot_part}" = "2"; then setenv mender_boot_part 3; else setenv mender_boot_part 2; fi
    setenv mender_boot_part_hex ${mender_boot_part}
    setenv upgrade_available 0
    setenv bootcount 0
  fi
  saveenv
fi
echo "== boot part=${mender_boot_part} upgrade_available=${upgrade_available} bootcount=${bootcount}"
# One processor (qemu.conf). rodata=off, cryptomgr.notests: page protection of each module, self-tests of the kernel's
# algorithms; two seconds of an emulator.
setenv bootargs "console=ttyS1,115200 root=/dev/mmcblk0p${mender_boot_part} rootwait panic=1 quiet maxcpus=1 rodata=off cryptomgr.notests"
# After a reset the emulator still has code for this memory, and looks for it at each store: with these long stores that
# is over soon, with the bytes of unzip it takes 3 s.
mw.q ${kernel_addr_r} 0 0x400000
if load mmc 0:${mender_boot_part} ${kernel_gz_r} /boot/Image.gz && unzip ${kernel_gz_r} ${kernel_addr_r}; then
  load mmc 0:${mender_boot_part} ${fdt_addr_r} /boot/board.dtb
  load mmc 0:${mender_boot_part} ${ramdisk_addr_r} /boot/initrd.gz
  booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr_r}
fi
# A kernel that cannot be loaded counts as a boot that failed.
echo "== boot failed, reset"
reset
