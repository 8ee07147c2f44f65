#!/bin/busybox sh
# The first process of the virtual machine: brings it up, runs each program, ends it.
# Lines that begin with "vm: " are read by xtask/src/vm/console.rs.

export PATH=/tools:/bin HOME=/ WEIR_BIN=/weir RUST_BACKTRACE=1
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var /root
/bin/busybox --install -s /bin
ln -sf /tools/sh /bin/sh
ln -s /run /var/run
mkdir -p /sbin && ln -s /bin/modprobe /sbin/modprobe

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
echo "vm: up"
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The tests' lines are not to be torn by the kernel's; a failure shows what it said.
dmesg -n 1
hostname weir-vm
ulimit -n 1048576
sysctl -q -w kernel.panic_on_oops=1
while read -r module; do
    modprobe "$module" || echo "vm: module $module cannot be loaded"
done </modules
ip link set lo up
dmesg -c >/dev/null # it is on the console; what is said from here on belongs to the tests

. /settings # LIMIT in seconds
# Whoever has started the machine may be gone.
(sleep "$LIMIT"; echo "vm: out of time"; poweroff -f) &

while read -r program arguments; do
    echo "vm: begin $program"
    # shellcheck disable=SC2086 # a word is an argument
    "/tests/$program" $arguments
    code=$?
    echo "vm: end $program $code"
    if [ "$code" != 0 ]; then
        dmesg | tail -n 40 | sed 's/^/kernel: /'
    fi
done </programs
echo "vm: done"
poweroff -f
