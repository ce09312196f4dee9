#!/usr/bin/env bash
# Starts a real two-node Slurm cluster on this one host, as root, without systemd: one slurmctld, two slurmd,
# one fake GPU (GRES) each. Debian packages: slurm-wlm munge. Stop it with down.sh.
# Jobs read /etc/slurm, so the files are written there (an exported SLURM_CONF does not reach job steps).
set -euo pipefail
mark="# Written by preddiff's tests/cluster/up.sh"
if [ -f /etc/slurm/slurm.conf ] && ! grep -q "^$mark" /etc/slurm/slurm.conf; then
  echo "/etc/slurm/slurm.conf is not of these tests: this host has a Slurm of its own" >&2
  exit 1
fi
host=$(hostname -s)
state=${SLURM_STATE:-/var/lib/preddiff-slurm}
mkdir -p /etc/slurm /run/munge "$state/state"
chown munge: /run/munge
cat >/etc/slurm/slurm.conf <<EOF
$mark
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$state/state
SlurmdSpoolDir=$state/spool.%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.%n.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=600
# The nodes claim more than this host has.
SlurmdParameters=config_overrides
# A lost node is noticed soon, and a job that is to end is not waited for.
SlurmdTimeout=10
KillWait=2
NodeName=n[1-2] NodeAddr=127.0.0.1 NodeHostname=$host Port=17001-17002 CPUs=4 RealMemory=20000 Gres=gpu:1 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
printf 'NodeName=n1 Name=gpu File=/dev/null\nNodeName=n2 Name=gpu File=/dev/zero\n' >/etc/slurm/gres.conf
munge -n >/dev/null 2>&1 || su -s /bin/sh munge -c /usr/sbin/munged
slurmctld
for _ in $(seq 50); do
  scontrol ping >/dev/null 2>&1 && break
  sleep 0.1
done
for node in n1 n2; do slurmd -N "$node"; done
for _ in $(seq 20); do
  [ "$(sinfo -h -t idle -o '%D' | head -n 1)" = 2 ] && exec sinfo
  sleep 0.5
done
echo "slurm: the nodes did not become idle; see $state/*.log" >&2
exit 1
