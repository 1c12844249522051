# Keeper of one world: runs beside the test, outlives it by a moment, and leaves nothing behind.
# usage: bash world-outside.sh FOLDER NAME INSIDE-SCRIPT; standard input is held open by the test for as long as the world lives.
set -u
folder=$1 name=$2 inside=$3
trap '' INT TERM HUP

# One cgroup per hierarchy, below the one this process is in (a process may not be beside a group of its own on v2,
# there it goes below the top).
groups=()
while IFS=: read -r _ controllers path; do
    case $controllers in
    '') if [ -e /sys/fs/cgroup/cgroup.controllers ]; then top=/sys/fs/cgroup path=/; else top=/sys/fs/cgroup/unified; fi ;;
    name=*) top=/sys/fs/cgroup/${controllers#name=} ;;
    *) top=/sys/fs/cgroup/$controllers ;;
    esac
    [ -d "$top" ] || continue
    parent=$top${path%/}
    [ -d "$parent" ] || parent=$top
    group=$parent/$name
    mkdir -p "$group" || continue
    case ",$controllers," in
    *,cpuset,*)
        cat "$parent/cpuset.cpus" >"$group/cpuset.cpus"
        cat "$parent/cpuset.mems" >"$group/cpuset.mems"
        ;;
    esac
    groups+=("$group")
done </proc/self/cgroup
printf '%s\n' "${groups[@]}" >"$folder/cgroups"

(
    trap - INT TERM HUP
    for group in "${groups[@]}"; do
        if [ -e "$group/tasks" ]; then echo 0 >"$group/tasks"; else echo 0 >"$group/cgroup.procs"; fi
    done
    exec unshare --mount --net --pid --cgroup --fork --kill-child --propagation private bash "$inside" "$folder"
)

# The world's processes are gone, and with them its mounts and links.
for group in "${groups[@]}"; do
    for _ in $(seq 200); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group" ] || break
        sleep 0.05
    done
done
if [ -z "${NARU_TEST_KEEP:-}" ] && ! grep -qF " $folder/" /proc/self/mounts; then
    rm -rf --one-file-system "$folder"
fi
