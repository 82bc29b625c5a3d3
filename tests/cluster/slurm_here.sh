#!/usr/bin/env bash
# A Slurm of two nodes on this machine, for one command: slurm_here.sh FOLDER COMMAND...
#
# Needs root, and Debian's slurmctld, slurmd, slurm-client, munge and iproute2. Controller and nodes have networks,
# addresses, host names, process tables and /tmp/ray of their own: Ray's `ray stop` ends what it finds in the process
# table, and other runs on this machine are none of its business. Everything ends with the command.
set -euo pipefail

folder=$(realpath "$1")
if [ "${INSIDE:-}" != controller ]; then
    INSIDE=controller exec unshare --net --pid --uts --mount --fork --kill-child --mount-proc bash "$0" "$@"
fi
shift
cd "$folder"
mkdir -p state /tmp/ray
hostname controller
ip link set lo up
ip link add bridge type bridge
ip address add 10.77.0.1/24 dev bridge
ip link set bridge up
printf '127.0.0.1 localhost\n10.77.0.1 controller\n10.77.0.11 n1\n10.77.0.12 n2\n' > hosts
mount --bind hosts /etc/hosts
cat > slurm.conf <<CONF
ClusterName=here
SlurmctldHost=controller
SlurmUser=root
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdSpoolDir=$folder/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
JobRequeue=1
KillWait=10
NodeName=n1,n2 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf

dd if=/dev/urandom of=munge.key bs=1 count=128 status=none
chmod 400 munge.key
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2> munged.err
slurmctld
for number in 1 2; do
    name=n$number
    ip link add "to-$name" type veth peer name "of-$name"
    ip link set "to-$name" master bridge up
    unshare --net --pid --uts --mount --fork --kill-child --mount-proc bash -c '
        echo $$ > ready.'$name'; hostname '$name'; ip link set lo up
        until ip link show of-'$name' > /dev/null 2>&1; do sleep 0.1; done
        ip address add 10.77.0.1'$number'/24 dev of-'$name'; ip link set of-'$name' up
        mount -t tmpfs tmpfs /tmp/ray
        exec slurmd -D -N '$name > "$name.out" 2>&1 &
    unshare_pid=$!
    until [ -s "ready.$name" ] && child=$(pgrep --parent "$unshare_pid"); do sleep 0.1; done
    ip link set "of-$name" netns "$child"
done
until [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; do sleep 0.5; done
"$@"
