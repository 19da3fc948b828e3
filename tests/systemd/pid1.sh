#!/usr/bin/env bash
# Becomes PID 1 of a machine: enters its control groups, builds its root over the host's, runs
# systemd. Started by machine.py in new mount, pid, uts, ipc and net namespaces.
#
#   pid1.sh enter STATE     ->  pid1.sh root STATE (in a cgroup namespace)  ->  systemd
#
# STATE: cgroups (a directory a line), binds (SOURCE<tab>TARGET, read-only), etc/ (copied over
# /etc), cpu/ and class/ (laid over /sys/devices/system/cpu and /sys/class).
# Nothing here is undone: all of it ends with the namespaces.
set -euo pipefail

state=$2
root=$state/mnt/root

enter() {
    local directory strays
    while read -r directory; do
        echo 0 >"$directory/cgroup.procs"
    done <"$state/cgroups"
    directory=$(head -n 1 "$state/cgroups")
    # A systemd that finds itself in a shared group moves every process there into a scope of its
    # own. Version 2 is in the list of a kernel even where nobody has mounted it.
    strays=$(grep -v "/$(basename "$directory")\$" /proc/self/cgroup || true)
    grep -q ' cgroup2 ' /proc/mounts || strays=$(grep -v '^0::' <<<"$strays" || true)
    if [[ -n $strays ]]; then
        echo "not confined to its own control groups: $strays"
        exit 1
    fi
    exec unshare --cgroup bash "$0" root "$state"
}

build_root() {
    mkdir -p "$state/mnt"
    mount -t tmpfs -o mode=755 tmpfs "$state/mnt"
    mkdir "$state"/mnt/{upper,work,root}
    mount -t overlay -o "lowerdir=/,upperdir=$state/mnt/upper,workdir=$state/mnt/work" overlay "$root"
    local place
    for place in dev:755 run:755 tmp:1777 etc/systemd/system:755 var/log:755 var/lib:755; do
        mkdir -p "$root/${place%:*}"
        mount -t tmpfs -o "mode=${place#*:},nosuid,nodev" tmpfs "$root/${place%:*}"
    done
    mount_kernel_files
    make_devices
    mount_cgroups
    cover cpu /sys/devices/system/cpu
    cover class /sys/class
    bind_all
    cp -r "$state/etc/." "$root/etc/"
    : >"$root/etc/fstab"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    hostname qwend-test
}

mount_kernel_files() {
    local name
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    # Not namespaced: systemd-sysctl would change the host through them.
    for name in sys sysrq-trigger; do
        [[ -e $root/proc/$name ]] || continue
        mount --bind "$root/proc/$name" "$root/proc/$name"
        mount -o remount,bind,ro "$root/proc/$name"
    done
    # Read-only: udev, sysctl and friends see that and leave the machine alone.
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
}

make_devices() {
    local name
    for name in null zero full random urandom tty; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir -p "$root"/dev/{pts,shm,mqueue}
    mount -t devpts -o newinstance,mode=620,ptmxmode=666,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s fd/0 "$root/dev/stdin"
    ln -s fd/1 "$root/dev/stdout"
    ln -s fd/2 "$root/dev/stderr"
}

# The layout of the host's, each hierarchy rooted in our own group of it.
mount_cgroups() {
    if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
        mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    local directory name
    while read -r directory; do
        name=${directory#/sys/fs/cgroup/}
        name=${name%%/*}
        mkdir "$root/sys/fs/cgroup/$name"
        case $(stat -fc %T "/sys/fs/cgroup/$name"):$name in
            cgroup2fs:*) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/$name" ;;
            *:systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/$name" ;;
            *) mount -t cgroup -o "$name" cgroup "$root/sys/fs/cgroup/$name" ;;
        esac
    done <"$state/cgroups"
}

# Lay STATE/NAME over a directory of /sys: what is written there never reaches the kernel, and what
# is not covered (online, topology) stays real. sysfs does as a lower layer.
cover() {
    local name=$1 place=$2
    [[ -d $state/$name ]] || return 0
    mkdir "$state"/mnt/"$name"{,-work}
    cp -a "$state/$name/." "$state/mnt/$name/"
    mount -t overlay -o "lowerdir=$place,upperdir=$state/mnt/$name,workdir=$state/mnt/$name-work" \
        overlay "$root$place"
}

bind_all() {
    local from to
    while IFS=$'\t' read -r from to; do
        if [[ -d $from ]]; then
            mkdir -p "$root$to"
        else
            mkdir -p "$(dirname "$root$to")"
            : >"$root$to"
        fi
        mount --bind "$from" "$root$to"
        mount -o remount,bind,ro "$root$to"
    done <"$state/binds"
}

run_systemd() {
    cd "$root"
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --system --unit=basic.target --show-status=false
}

case $1 in
    enter) enter ;;
    root)
        build_root
        run_systemd
        ;;
esac
