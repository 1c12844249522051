# Told to busybox in a container without flags: one fact a line, `key value`. What is tried there is only tried.
mounted() { awk -v at="$1" '$5 == at { for (i = 7; $i != "-"; i++); fs = $(i + 1); how = substr($6, 1, 2) } END { if (fs) print fs, how }' /proc/self/mountinfo; }
status() { awk -v key="$1:" '$1 == key { print $2 }' /proc/self/status; }

echo "root $(awk '{ print $2 }' /proc/self/uid_map)"
for key in CapEff CapBnd CapInh CapAmb NoNewPrivs Seccomp; do echo "$key $(status $key)"; done
echo "label $(cat /proc/self/attr/current 2>/dev/null)"
echo "namespaces $(for kind in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$kind; done | tr '\n' ' ')"
unshare -U true 2>/dev/null && echo "unshare allowed" || echo "unshare refused"
mknod /memory c 1 1 2>/dev/null && made=yes || made=no
head -c 1 /memory >/dev/null 2>&1 && opened=yes || opened=no
echo "device $made $opened"
mount -t tmpfs none /tmp 2>/dev/null && echo "mount allowed" || echo "mount refused"
hidden= readonly= open=
for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list \
    /proc/timer_stats /sys/dev/block /sys/devices/virtual/powercap /sys/firmware /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
    [ -e "$path" ] || continue
    case "$(mounted "$path")" in
    "proc ro" | "sysfs ro") readonly="$readonly $path" ;;
    "") open="$open $path" ;;
    *) hidden="$hidden $path" ;;
    esac
done
echo "hidden$hidden"
echo "readonly$readonly"
echo "open$open"
echo "sys $(mounted /sys)"
echo "groups $(mounted /sys/fs/cgroup) $(awk '$5 ~ "^/sys/fs/cgroup/" { print substr($6, 1, 2) }' /proc/self/mountinfo | sort -u | tr '\n' ' ')"
mkdir /sys/fs/cgroup/x 2>/dev/null && echo "group goes through" || echo "group refused"
echo "pids $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | head -1)"
echo "core $(ulimit -c)"
echo "files $(ulimit -n)"
echo "port $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "ping $(cat /proc/sys/net/ipv4/ping_group_range | tr '\t' ' ')"
echo "devices $(ls /dev | sort | tr '\n' ' ')"
