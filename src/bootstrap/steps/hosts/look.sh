# How a host stands before kubeadm or etcd: a line for each thing, its kind first.
# $1: files whose content counts; $2: programs whose checksum counts; $3: programs; $4: packages, or "all";
# $5: units; $6: kernel modules; $7: kernel parameters; $8: the folder of our marks; $9: "images" to list them.
echo "hostname $(cat /proc/sys/kernel/hostname)"
echo "arch $(uname -m)"
[ -e /etc/kubernetes/kubelet.conf ] && echo "file /etc/kubernetes/kubelet.conf"
swaps
sed -n 's/^[ \t]*\([^# \t][^ \t]*\)[ \t][ \t]*[^ \t]*[ \t][ \t]*swap[ \t].*/fstab \1/p' /etc/fstab 2>/dev/null
for name in $6; do module "$name"; done
parameters "$7"
for file in $1; do
  [ -f "$file" ] && echo "content $file $(stat -c '%a %U %G' "$file") $(base64 <"$file" | tr -d '\n')"
done
for file in $2; do
  [ -f "$file" ] && [ -x "$file" ] && sha256sum "$file" | while read -r sum _; do echo "sum $file $sum"; done
done
for file in "$8"/*; do [ -f "$file" ] && echo "mark ${file##*/} $(first "$file")"; done
for name in $3; do program "$name"; done
if [ -n "$4" ] && have dpkg-query; then
  names=$4
  [ "$names" = all ] && names=
  # shellcheck disable=SC2086
  dpkg-query -W -f='${db:Status-Status} ${Package} ${Version}\n' $names 2>/dev/null | sed -n 's/^installed /package /p'
  holds
fi
for unit in $5; do
  systemctl show -p LoadState -p ActiveState -p UnitFileState "$unit" 2>/dev/null |
    sed 's/.*=//' | tr '\n' ' ' | sed "s|^|unit $unit |"
  echo
done
# Without its socket ctr waits for ten seconds.
if [ "$9" = images ] && have ctr && [ -S /run/containerd/containerd.sock ]; then
  bounded 10 ctr -n k8s.io images ls -q 2>/dev/null | sed 's/^/image /'
fi
echo "end"
