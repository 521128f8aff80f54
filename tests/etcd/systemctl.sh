#!/bin/sh
# As much of systemctl as one unit needs: it is started, started again when it ends, and stopped, with
# what its file says; it is active once etcd says that it is ready. The unit that counts is the one that was there at the last daemon-reload.
state=$DOUBLE_STATE
mkdir -p "$state"
verb=$1
shift
unit='' value='' now=''
properties=''
while [ $# -gt 0 ]; do
    case $1 in
    -p) properties="$properties $2"; shift ;;
    --value) value=yes ;;
    --now) now=yes ;;
    --no-block) ;;
    -*) echo "systemctl double: $1 is not known" >&2; exit 2 ;;
    *) unit=$1 ;;
    esac
    shift
done
file=/etc/systemd/system/$unit
loaded=$state/$unit

setting() { sed -n "s/^$1=//p" "$loaded"; }
alive() { [ -f "$loaded.pid" ] && kill -0 "$(cat "$loaded.pid")" 2>/dev/null; }
property() {
    case $1 in
    ActiveState)
        if alive && grep -q 'serving client traffic' "$loaded.log"; then echo active
        elif [ -e "$loaded.wanted" ]; then echo activating
        else echo inactive; fi ;;
    UnitFileState) if [ -e "$loaded.enabled" ]; then echo enabled; else echo disabled; fi ;;
    NeedDaemonReload)
        if [ -e "$file" ] && ! cmp -s "$file" "$loaded"; then echo yes; else echo no; fi ;;
    LoadState) if [ -e "$file" ]; then echo loaded; else echo not-found; fi ;;
    *) echo "systemctl double: no property $1" >&2; exit 2 ;;
    esac
}
supervise() {
    while [ -e "$loaded.wanted" ]; do
        : >"$loaded.log"
        (
            set -a
            for settings in $(setting EnvironmentFile); do
                case $settings in
                -*) [ ! -e "${settings#-}" ] || . "${settings#-}" ;;
                *) . "$settings" ;;
                esac
            done
            set +a
            unset DOUBLE_STATE
            exec setpriv --reuid "$(setting User)" --regid "$(setting Group)" --clear-groups \
                $(setting ExecStart)
        ) >>"$loaded.log" 2>&1 &
        echo $! >"$loaded.pid"
        wait $!
        [ ! -e "$loaded.wanted" ] || sleep 0.5
    done
}

case $verb in
show)
    for one in $properties; do
        found=$(property "$one") || exit 2
        if [ -n "$value" ]; then echo "$found"; else echo "$one=$found"; fi
    done ;;
daemon-reload) for one in /etc/systemd/system/apiproxy-*.service; do
        [ ! -e "$one" ] || cp "$one" "$state/"
    done ;;
enable) [ -e "$file" ] && touch "$loaded.enabled" ;;
disable)
    rm -f "$loaded.enabled"
    [ -z "$now" ] || "$0" stop "$unit" ;;
reset-failed) ;;
stop)
    rm -f "$loaded.wanted"
    if alive; then
        kill "$(cat "$loaded.pid")"
        while alive; do sleep 0.05; done
    fi
    rm -f "$loaded.pid" ;;
start)
    [ -e "$loaded" ] || { echo "Unit $unit not found." >&2; exit 5; }
    if [ ! -e "$loaded.wanted" ]; then
        touch "$loaded.wanted"
        supervise >/dev/null 2>&1 </dev/null &
    fi ;;
*) echo "systemctl double: $verb is not known" >&2; exit 2 ;;
esac
exit 0
