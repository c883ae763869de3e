#!/sbin/openrc-run
supervisor=supervise-daemon
name={{quote .Name}}
description={{quote .Description}}
command={{quote .Executable}}
# The list is split like a shell would.
command_args="{{range $i, $a := .Arguments}}{{if $i}} {{end}}{{double (quote $a)}}{{end}}"
{{- if .User}}
command_user={{quote .User}}
{{- end}}
pidfile="/run/${RC_SVCNAME}.pid"
output_log="{{double .LogDir}}/${RC_SVCNAME}.log"
error_log="{{double .LogDir}}/${RC_SVCNAME}.err"
# The runner gives its jobs shutdown_timeout, 30 s by default.
retry="TERM/60/KILL/5"
extra_started_commands="reload"

depend() {
	need net
	use logger
}

reload() {
	ebegin "Reloading ${RC_SVCNAME}"
	supervise-daemon "${RC_SVCNAME}" --signal HUP --pidfile "${pidfile}"
	eend $?
}
