"""Images that boot in a virtual machine: with a kernel of Debian's own, its initramfs, and udev."""

from __future__ import annotations

from migrationhub.lab.recipes.base import BASE, Recipe
from migrationhub.lab.recipes.shop import SHOP_DB

# Few modules: unpacking the usual initramfs takes an emulated processor longer than the rest of the boot. What a
# container needs in a kernel's place goes away.
KERNEL = """
rm -rf /boot/*-6.1.0-*[0-9]-amd64 /usr/lib/modules/6.1.0-*[0-9]-amd64
echo 'MODULES=list' > /etc/initramfs-tools/conf.d/lab
printf '%s\\n' virtio_pci virtio_blk virtio_net ext4 >> /etc/initramfs-tools/modules
update-initramfs -u
"""
# What a platform provisions, as it really is. The mount says whose fstab is in use.
DEBIAN_VIRTUAL = Recipe(
    "debian-virtual",
    BASE,
    packages=("linux-image-cloud-amd64", "initramfs-tools", "udev"),
    files={"/etc/fstab": "LABEL=target-root / ext4 errors=remount-ro 0 1\ntmpfs /srv/target-own tmpfs size=1m 0 0\n"},
    commands=f"{KERNEL}\nmkdir -p /srv/target-own\n",
)
# A source as a machine is, not as a container: with udev, which the target gets from it.
SHOP_DB_MACHINE = Recipe("shop-db-machine", SHOP_DB, packages=("udev",))
LVM = Recipe(
    "lvm",
    BASE,
    packages=(
        "linux-image-cloud-amd64",
        "initramfs-tools",
        "udev",
        "lvm2",
        "thin-provisioning-tools",
        "xfsprogs",
        "python3",
    ),
    files={"/etc/fstab": "LABEL=source-root / ext4 errors=remount-ro 0 1\n"},
    commands=KERNEL,
)

# The module is compiled for this kernel once (six minutes of a processor); compiler and sources go away again.
ZFS_MODULE = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
sed -i 's/ main$/ main contrib/' /etc/apt/sources.list
apt-get -qq -o Acquire::Languages=none update
apt-get -qq -y --no-install-recommends install linux-headers-cloud-amd64 build-essential dkms
apt-get -qq -y --no-install-recommends install zfs-dkms zfsutils-linux
version=$(ls /usr/lib/modules | grep cloud)
cp -a /usr/lib/modules/$version/updates/dkms /root/zfs
dpkg --purge --force-depends zfs-dkms
apt-get -qq -y purge dkms 'linux-headers-*' 'linux-kbuild-*' 'linux-compiler-*' gcc-12 make build-essential
apt-get -qq -y autoremove --purge
mkdir -p /usr/lib/modules/$version/updates
mv /root/zfs /usr/lib/modules/$version/updates/zfs
depmod $version
rm -rf /var/lib/apt/lists/*_*
"""
ZFS = Recipe(
    "zfs",
    BASE,
    packages=("linux-image-cloud-amd64", "initramfs-tools", "udev"),
    files={"/etc/fstab": "LABEL=source-root / ext4 errors=remount-ro 0 1\n"},
    commands=f"{ZFS_MODULE}{KERNEL}",
)
