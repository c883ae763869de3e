#!/bin/sh
# chkconfig: 2345 99 01
# description: {{.Description}}
# processname: {{.Name}}

### BEGIN INIT INFO
# Provides:          {{.Name}}
# Required-Start:    $network $remote_fs
# Required-Stop:     $network $remote_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: {{.Description}}
# Description:       {{.Description}}
### END INIT INFO

name={{quote .Name}}
program={{quote .Executable}}
user={{quote .User}}
home={{quote .Home}}
pid_file=/var/run/$name.pid
log_dir={{quote .LogDir}}
# For so many seconds a stop waits; the runner itself gives its jobs shutdown_timeout.
STOP_TIMEOUT=60

# /etc/default is Debian's place, /etc/sysconfig that of Red Hat. Both may export variables to the runner.
for defaults in "/etc/default/$name" "/etc/sysconfig/$name"; do
	[ ! -r "$defaults" ] || . "$defaults"
done

# The number may be that of another program by now, and the program may have been replaced since.
running() {
	pid=$(cat "$pid_file" 2>/dev/null) && [ -n "$pid" ] || return 1
	exe=$(readlink "/proc/$pid/exe") || return 1
	[ "${exe% (deleted)}" = "$(readlink -f "$program")" ]
}

start() {
	if running; then
		echo "$name is running already"
		return 0
	fi
	set --{{range .Arguments}} {{quote .}}{{end}}
	if [ -n "$user" ]; then
		HOME=$home
		export HOME
		set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$program" "$@"
	else
		set -- "$program" "$@"
	fi
	"$@" </dev/null >>"$log_dir/$name.log" 2>>"$log_dir/$name.err" &
	echo $! >"$pid_file"
	for second in 1 2 3 4 5; do
		sleep 1
		if running; then
			echo "$name started"
			return 0
		fi
	done
	echo "$name did not start: see $log_dir/$name.err" >&2
	return 1
}

stop() {
	if ! running; then
		echo "$name is not running"
		rm -f "$pid_file"
		return 0
	fi
	kill -TERM "$pid"
	waited=0
	while running; do
		if [ "$waited" -ge "$STOP_TIMEOUT" ]; then
			echo "$name did not stop within $STOP_TIMEOUT s" >&2
			return 1
		fi
		sleep 1
		waited=$((waited + 1))
	done
	rm -f "$pid_file"
	echo "$name stopped"
}

case "$1" in
start) start ;;
stop) stop ;;
restart) stop && start ;;
reload | force-reload)
	if ! running; then
		echo "$name is not running" >&2
		exit 7
	fi
	kill -HUP "$pid"
	;;
status)
	if running; then
		echo "Running"
		exit 0
	fi
	echo "Stopped"
	exit 3
	;;
*)
	echo "Usage: $0 {start|stop|restart|reload|status}" >&2
	exit 2
	;;
esac
