#!/usr/bin/env bash
# A Slurm of two nodes on this machine, for one command: slurm_here.sh FOLDER COMMAND...
#
# Needs root, and Debian's slurmctld, slurmd, slurm-client, munge and iproute2. Controller and nodes have networks,
# addresses, host names, process tables and /tmp/ray of their own: Ray's `ray stop` ends what it finds in the process
# table, and other runs on this machine are none of its business. Everything ends with the command.
set -euo pipefail

namespaces=(unshare --net --pid --uts --mount --fork --kill-child --mount-proc)
here=$(realpath "$0")
folder=$(realpath "$1")
shift

node() { # NAME ADDRESS, in namespaces of its own
    hostname "$1"
    ip link set lo up
    until ip link show "of-$1" > /dev/null 2>&1; do sleep 0.1; done
    ip address add "$2/24" dev "of-$1"
    ip link set "of-$1" up
    mount -t tmpfs tmpfs /tmp/ray
    slurmd -D -N "$1"
    true # this shell stays, as the first process of its table, and reaps what others leave behind
}

# cred_expire: a job that is queued again waits for so many seconds; Slurm's own 120 are long for a test.
configure() {
    cat > slurm.conf << CONF
ClusterName=here
SlurmctldHost=controller
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=30
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
NodeName=n1,n2 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
}

start_munge() {
    dd if=/dev/urandom of=munge.key bs=1 count=128 status=none
    chmod 400 munge.key
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2> munged.err
}

start_node() { # NAME ADDRESS
    ip link add "to-$1" type veth peer name "of-$1"
    ip link set "to-$1" master bridge up
    INSIDE=node "${namespaces[@]}" bash "$here" "$folder" "$1" "$2" > "$1.out" 2>&1 &
    until inside=$(pgrep --parent $!); do sleep 0.1; done
    ip link set "of-$1" netns "$inside"
}

controller() { # COMMAND...
    mkdir -p state /tmp/ray
    hostname controller
    ip link set lo up
    ip link add bridge type bridge
    ip address add 10.77.0.1/24 dev bridge
    ip link set bridge up
    printf '127.0.0.1 localhost\n10.77.0.1 controller\n10.77.0.11 n1\n10.77.0.12 n2\n' > hosts
    mount --bind hosts /etc/hosts
    configure
    start_munge
    slurmctld
    start_node n1 10.77.0.11
    start_node n2 10.77.0.12
    until [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; do sleep 0.5; done
    "$@"
}

cd "$folder"
export SLURM_CONF=$folder/slurm.conf
case ${INSIDE:-outside} in
    outside) INSIDE=controller exec "${namespaces[@]}" bash "$here" "$folder" "$@" ;;
    controller) unset INSIDE && controller "$@" ;;
    node) unset INSIDE && node "$@" ;;
esac
