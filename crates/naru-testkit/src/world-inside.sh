# First process of a world: its end is the end of every process in it.
set -u
folder=$1
read -r outside_pid _ </proc/self/stat
mount -t proc proc /proc
ip link set lo up

# The hierarchies again, now as this world sees them: its own group is their top.
grep -E ' (cgroup|cgroup2) ' /proc/self/mounts >"$folder/hierarchies"
while read -r _ target kind options _; do
    options=$(printf '%s' "$options" | tr ',' '\n' | grep -vE '^(rw|relatime|nosuid|nodev|noexec|nsdelegate|memory_.*)$' | paste -sd,)
    umount "$target" && mount -t "$kind" ${options:+-o "$options"} "$kind" "$target"
done <"$folder/hierarchies"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    # v2: a group with processes of its own can't hand controllers on, so they move into a leaf.
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi
mount -t tmpfs tmpfs /run

echo "ready $outside_pid"
# bash reaps what is orphaned to it while it waits here.
read -r _
# What is frozen can't be killed.
find /sys/fs/cgroup -name freezer.state -exec sh -c 'echo THAWED >"$0"' {} \; 2>/dev/null
find /sys/fs/cgroup -name cgroup.freeze -exec sh -c 'echo 0 >"$0"' {} \; 2>/dev/null
