# What the scripts that look at hosts share. They only look.
set +eu
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

have() { command -v "$1" >/dev/null 2>&1; }
bounded() { if have timeout; then timeout "$@"; else shift; "$@"; fi; }
first() { head -n 1 "$1" 2>/dev/null; }

module() {
  # What is built in has no folder there if it has no parameters.
  builtin=/lib/modules/$(uname -r)/modules.builtin
  if [ -e "/sys/module/$1" ] || grep -qs "/$1\.ko" "$builtin"; then echo "module $1 loaded"; return; fi
  case "$1" in
    overlay) grep -qw overlay /proc/filesystems ;;
    br_netfilter) [ -e /proc/sys/net/bridge ] ;;
    nf_conntrack) [ -e /proc/sys/net/netfilter/nf_conntrack_max ] ;;
    nf_tables) have nft && nft list tables >/dev/null 2>&1 ;;
    ip_vs) [ -e /proc/net/ip_vs ] ;;
    *) false ;;
  esac && { echo "module $1 loaded"; return; }
  if modprobe -n "$1" >/dev/null 2>&1; then echo "module $1 available"; else echo "module $1 missing"; fi
}
# The kernel parameters of these names.
parameters() {
  for key in $1; do
    file=/proc/sys/$(echo "$key" | tr . /)
    [ -r "$file" ] && echo "sysctl $key $(first "$file")"
  done
}
swaps() { sed 1d /proc/swaps | while read -r file _; do echo "swap $file"; done; }
holds() { have apt-mark && for package in $(bounded 10 apt-mark showhold 2>/dev/null); do echo "held $package"; done; }
owner() { if have dpkg-query; then dpkg-query -S "$1" 2>/dev/null | head -n 1 | sed 's/[:,].*//'; elif have rpm; then rpm -qf --qf '%{NAME}' "$1" 2>/dev/null | grep -v ' '; fi; }
program() {
  path=$(command -v "$1") || return
  package= said=
  case "$1" in
    kubeadm) said=$(bounded 5 kubeadm version -o short 2>/dev/null) ;;
    kubectl) said=$(bounded 5 kubectl version --client 2>/dev/null | head -n 1) ;;
    kubelet | containerd | runc | etcd | crictl | conntrack) said=$(bounded 5 "$1" --version 2>/dev/null | head -n 1) ;;
  esac
  # Whose it is matters of those whose version does; asking takes a while.
  [ -n "$said" ] && package=$(owner "$(readlink -f "$path")")
  echo "program $1 $path ${package:--} $said"
}
