# What one host is: a line for each fact, its kind first. Changes nothing; the one file it makes
# (to time writes) it removes.
# $1: "sync" to time writes where etcd will live; $2: names to resolve; $3: ADDRESS/PORT to reach;
# $4: kernel modules; $5: kernel parameters.
date '+begin %s%N'

# Connections and names are tried beside the rest: what does not answer takes two seconds.
reach() {
  address=${1%/*} port=${1##*/}
  if have bash && have timeout; then
    said=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$address" "$port" 2>&1)
  elif have nc; then
    said=$(nc -z -w 2 "$address" "$port" 2>&1)
  else
    echo "reach $1 untried"
    return
  fi
  code=$?
  case "$code $said" in
    0*) echo "reach $1 open" ;;
    *efused*) echo "reach $1 refused" ;;
    124*|*imed\ out*) echo "reach $1 silent" ;;
    *) echo "reach $1 unreachable" ;;
  esac
}
resolve() {
  if bounded 3 getent ahosts "$1" >/dev/null 2>&1; then echo "name $1 found"; else echo "name $1 unknown"; fi
}
for target in $3; do reach "$target" & done
for name in $2; do resolve "$name" & done

echo "user $(id -u)"
for key in ID VERSION_ID PRETTY_NAME; do
  echo "os $key $(sed -n "s/^$key=//p" /etc/os-release | head -n 1 | tr -d '"')"
done
echo "kernel $(uname -r)"
echo "arch $(uname -m)"
echo "cpus $(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc)"
echo "memory $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "hostname $(cat /proc/sys/kernel/hostname)"
echo "machine-id $(first /etc/machine-id)"
echo "product-uuid $(first /sys/class/dmi/id/product_uuid)"
echo "init $(first /proc/1/comm)"
have systemctl && echo "systemd $(bounded 5 systemctl is-system-running 2>/dev/null)"
have timedatectl && echo "synchronised $(bounded 5 timedatectl show -p NTPSynchronized --value 2>/dev/null)"
swaps

for name in $4; do module "$name"; done

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  echo "cgroup 2"
  echo "controllers $(first /sys/fs/cgroup/cgroup.controllers)"
elif [ -r /proc/cgroups ]; then
  echo "cgroup 1"
  echo "controllers $(awk '$1 !~ /^#/ && $4 == 1 { printf "%s ", $1 }' /proc/cgroups)"
fi

parameters "$5"

if have ss; then
  ss -Hltnp | awk '{ print "port", $4, $6 }'
else
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { sub(/.*:/, "", $2); print "hexport", $2 }'
fi
have ip && ip -o addr show 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print "address", $4 }'

existing() { folder=$1; while [ ! -d "$folder" ]; do folder=${folder%/*}; [ -n "$folder" ] || folder=/; done; echo "$folder"; }
for folder in /var/lib/etcd /var/lib/containerd /var/lib/kubelet /; do
  df -Pk "$(existing "$folder")" 2>/dev/null | awk -v folder="$folder" 'NR == 2 { print "disk", folder, $4, $2, $6 }'
done

# 100 writes of the size of a log entry into a file that is there already, as etcd's are.
if [ "$1" = sync ]; then
  probe=$(mktemp "$(existing /var/lib/etcd)/.apiproxy-sync.XXXXXX") && {
    trap 'rm -f "$probe"' EXIT INT TERM HUP
    dd if=/dev/zero of="$probe" bs=4096 count=100 conv=fsync 2>/dev/null
    turn=0
    while [ "$turn" -lt 100 ]; do
      dd if=/dev/zero of="$probe" bs=4096 count=1 seek="$turn" conv=notrunc oflag=dsync 2>&1 |
        sed -n 's/.*copied, \([0-9.e-]*\) s.*/sync \1/p'
      turn=$((turn + 1))
    done
    rm -f "$probe"
  }
fi

if have getenforce; then echo "selinux $(getenforce)"; fi
[ -r /sys/module/apparmor/parameters/enabled ] && echo "apparmor $(first /sys/module/apparmor/parameters/enabled)"
if have systemctl; then
  for unit in firewalld ufw nftables; do
    [ "$(bounded 5 systemctl is-active "$unit" 2>/dev/null)" = active ] && echo "firewall $unit"
  done
fi
if have nft && bounded 5 nft list ruleset 2>/dev/null | grep -q 'hook input .*policy drop'; then echo "firewall policy-drop"; fi

for name in kubeadm kubelet kubectl containerd runc crictl etcd conntrack apiproxy \
  losetup mount umount cp modprobe iptables ip nsenter socat ethtool tc tar apt-get dnf curl bash ss; do
  program "$name"
done
if have apt-cache; then
  bounded 20 apt-cache policy kubeadm kubelet containerd etcd-server 2>/dev/null | awk '
    /^[^ ]/ { sub(/:$/, "", $1); package = $1 }
    /^  Candidate:/ { candidate = $2; if (candidate != "(none)") print "candidate", package, candidate }
    /^ +[0-9]+ (https?|file|copy):/ && !(package in seen) { seen[package] = 1; print "source", package, $2 }'
fi
holds

for file in /etc/kubernetes/manifests/*.yaml /etc/kubernetes/kubelet.conf /etc/kubernetes/admin.conf; do
  [ -e "$file" ] && echo "file $file"
done
[ -d /var/lib/etcd/member ] && echo "file /var/lib/etcd/member"
[ -n "$(ls -A /etc/kubernetes/manifests 2>/dev/null)" ] && echo "file /etc/kubernetes/manifests"
sed -n 's/^nameserver  *\([^ ]*\).*/nameserver \1/p' /etc/resolv.conf 2>/dev/null

wait
date '+end %s%N'
