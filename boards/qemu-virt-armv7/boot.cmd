# Found by U-Boot's own search. Reads the environment from the card, counts the boot, and boots the slot.
setenv ea 0x4c000000
virtio read ${ea} 0x2000 0x80
if env import -c ${ea} 0x10000; then true; else echo "== the environment on the card is bad: defaults"; fi
setenv thimble_save 'env export -c -s 0x10000 ${ea} && virtio write ${ea} 0x2000 0x80'
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
  run thimble_save
fi
echo "== boot part=${mender_boot_part} upgrade_available=${upgrade_available} bootcount=${bootcount}"
setenv kernel_addr_r 0x40400000
setenv ramdisk_addr_r 0x44000000
setenv fdt_high 0xffffffff
setenv initrd_high 0xffffffff
# rodata=off: changing the protection of each module's pages costs more than all the rest of the boot.
# cryptomgr.notests: self-tests of the kernel's algorithms are 1.5 s of an emulator.
setenv bootargs "console=ttyAMA0 root=/dev/vda${mender_boot_part} rootwait panic=1 quiet rodata=off cryptomgr.notests"
if load virtio 0:${mender_boot_part} ${kernel_addr_r} /boot/zImage; then
  load virtio 0:${mender_boot_part} ${ramdisk_addr_r} /boot/initrd.gz
  bootz ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr}
fi
# A kernel that cannot be loaded counts as a boot that failed.
echo "== boot failed, reset"
reset
