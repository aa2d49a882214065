#!/bin/sh
# SPDX-License-Identifier: ISC
#
# The tour of `make demo`: starts the built nologd in a fresh directory, lets a
# simulated fleet report through the real sockets, asks, and stops.  Uses only
# the programs in the build directory and what every Debian has; needs no root,
# no network and nothing installed.  Every command is shown before its output.
#
#	tools/demo.sh		the tour
#	tools/demo.sh --run	a nologd in the foreground, state kept in build/run
#	tools/demo.sh --bench [OPTION...]	nolog-bench against a fresh nologd
#
# Times in the tour are relative to now, so that it works on any day.
set -eu

B=${NOLOGD_BUILD:-build}
DAEMON=
SERVERS=6
SESSIONS=500	# of each server
USERS=40	# accounts of each server

say()
{
	printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi
}

# show 'COMMAND' [LINES]: prints it as one would type it, then runs it and shows
# its first lines.  What fails here ends the tour.
show()
{
	printf '$ %s\n' "$1"
	eval "$1" >"$D/output" 2>&1 || {
		cat "$D/output"
		die "this failed: $1"
	}
	head -n "${2:-30}" "$D/output"
	rest=$(($(wc -l <"$D/output") - ${2:-30}))
	[ "$rest" -le 0 ] || echo "  ... and $rest lines more"
}

die()
{
	echo "demo: $*" >&2
	exit 1
}

cleanup()
{
	status=$?
	trap - EXIT INT TERM
	if [ -n "$DAEMON" ]; then
		kill -TERM "$DAEMON" 2>/dev/null || :
		wait "$DAEMON" 2>/dev/null || :
	fi
	if [ "$status" != 0 ] && [ -n "${D:-}" ] && [ -s "$D/log" ]; then
		echo "demo: nologd's log:" >&2
		tail -n 20 "$D/log" >&2
	fi
	exit "$status"
}

# A configuration for trying out: six servers, each behind one shared exit
# address.  No user to become: even root stays who he is, and reaches build/.
configure()
{
	{
		echo '[servers]'
		i=1
		while [ "$i" -le "$SERVERS" ]; do
			echo "nl-ams-0$i = 203.0.113.$i"
			i=$((i + 1))
		done
		echo '[usage]'
		echo 'tick = 200ms'
	} >"$1"
}

# Starts nologd with the directory D and returns when it answers.
start()
{
	"$B/nologd" -c "$D/nologd.conf" --state "$D/state" --run "$D/run" 2>"$D/log" &
	DAEMON=$!
	n=0
	until "$B/nologctl" --run "$D/run" status >/dev/null 2>&1; do
		kill -0 "$DAEMON" 2>/dev/null || die 'nologd did not start'
		n=$((n + 1))
		[ "$n" -lt 100 ] || die 'nologd does not answer'
		sleep 0.1
	done
}

stop()
{
	kill -TERM "$DAEMON"
	if wait "$DAEMON"; then status=0; else status=$?; fi
	DAEMON=
	[ "$status" = 0 ] || die "nologd ended with exit status $status"
}

fresh()
{
	rm -rf "$D"
	mkdir -p "$D/run" "$D/state"
	chmod 700 "$D/state"
	configure "$D/nologd.conf"
}

# What server $1 has to report, as lines for `nologctl report`: finished
# sessions over the last two hours, a few that are still open, and the bytes of
# its users.  Addresses are 10.SERVER.x.y, and the first session of server 3 is
# the one that is asked for below.
events()
{
	awk -v server="$1" -v now="$NOW" -v sessions="$SESSIONS" -v users="$USERS" 'BEGIN {
		srand(server)
		for (i = 0; i < sessions; i++) {
			ip = "10." server "." int(i / 250) "." i % 250 + 2
			begin = now - 7200 + int(i * 6600 / sessions)
			end = begin + 60 + int(rand() * 540)
			if (i % 10 == 9) {
				printf "start --handle %d --ip %s --at @%d\n", i + 1, ip, begin
				if (i % 20 == 9)
					printf "end --handle %d --at @%d\n", i + 1, end
			} else {
				printf "session --ip %s --from @%d --to @%d\n", ip, begin, end
			}
		}
		for (i = 0; i < users; i++)
			printf "usage user-%d@example.net %d %d\n", i, 1000000 + i, 20000000 + i
	}'
}

tour()
{
	D=$B/demo
	CTL="$B/nologctl --run $D/run"
	fresh
	NOW=$(date +%s)

	say '1. A configuration, checked; then nologd on five sockets'
	show "cat $D/nologd.conf"
	show "$B/nologd -c $D/nologd.conf -n >/dev/null && echo fine"
	printf '$ %s\n' "$B/nologd -c $D/nologd.conf --state $D/state --run $D/run &"
	start
	show "ls $D/run"

	say "2. $SERVERS simulated VPN servers report $((SERVERS * SESSIONS)) sessions and their users' bytes"
	echo "\$ head -n 2 $D/events-3; tail -n 1 $D/events-3"
	i=1
	while [ "$i" -le "$SERVERS" ]; do
		events "$i" >"$D/events-$i"
		i=$((i + 1))
	done
	head -n 2 "$D/events-3"
	tail -n 1 "$D/events-3"
	echo "\$ for i in $(seq -s ' ' "$SERVERS"); do $CTL report --server nl-ams-0\$i <$D/events-\$i & done"
	reporters=
	began=$(date +%s%N)
	i=1
	while [ "$i" -le "$SERVERS" ]; do
		"$B/nologctl" --run "$D/run" report --server "nl-ams-0$i" <"$D/events-$i" &
		reporters="$reporters $!"
		i=$((i + 1))
	done
	for p in $reporters; do
		wait "$p" || die 'a server could not report'
	done
	echo "all durable after $((($(date +%s%N) - began) / 1000000)) ms"

	at=$(date -u -d "@$((NOW - 7200 + 30))" +%Y-%m-%dT%H:%M:%SZ)
	say "3. The abuse desk: who had 10.3.0.2 at $at?"
	show "$CTL lookup 10.3.0.2 --at $at"
	show "$CTL --json lookup 10.3.0.2 --at $at"

	say '4. The complaint names the shared exit 203.0.113.3 instead: candidates, and never a guess'
	show "$CTL lookup 203.0.113.3 --at $at --slack 10s"
	echo 'The same by the name of the server:'
	show "$CTL lookup --server nl-ams-03 --at $at"

	say '5. Billing: the total of this month, and whether it is over a limit'
	show "echo -n 'user-7@example.net' | $CTL quota"
	show "echo -n 'user-7@example.net' | $CTL quota --limit 100000000 || echo \"exit status \$?\""

	say '6. What is kept, printed from the definition that the encoder uses'
	show "$CTL policy" 120

	say '7. How nologd is, and whether its store is sound'
	show "$CTL status" 80
	show "$B/nologctl audit --state $D/state"

	say '8. Stop: every waiting session goes into its day. Then the files'
	printf '$ %s\n' "kill -TERM $DAEMON"
	stop
	show "ls -l $D/state $D/state/days"
	show "$B/nologctl audit --state $D/state"
	show "grep -r -e user-7 -e 10.3.0.2 $D/state $D/log || echo 'no account, no address'"

	say 'What you saw'
	cat <<END
Six servers reported $((SERVERS * SESSIONS)) sessions; nologd acknowledged each once it was durable. One
address and a time gave one session; a shared exit gave candidates; a user's name
gave a total, and the name itself was stored nowhere. Days are unreadable after 90
days, totals after the month: their keys are overwritten in $D/state/keyring.

Next:
  make run         a nologd to try out, in this terminal; it says what to type in another
  make check       all tests
  less README.md   connect an OpenVPN server
END
}

run()
{
	D=$B/run
	mkdir -p "$D/sockets" "$D/state"
	chmod 700 "$D/state"
	[ -e "$D/nologd.conf" ] || configure "$D/nologd.conf"
	cat <<END
nologd runs in $D; stop it with ^C. In another terminal:
  $B/nologctl --run $D/sockets start --server nl-ams-01 --handle 1 --ip 10.8.0.2
  $B/nologctl --run $D/sockets lookup 10.8.0.2
  $B/nologctl --run $D/sockets end --server nl-ams-01 --handle 1
  echo -n alice | $B/nologctl --run $D/sockets usage --server nl-ams-01 --rx 1000 --tx 2000
  echo -n alice | $B/nologctl --run $D/sockets quota
  $B/nologctl audit --state $D/state
  $B/nologctl --run $D/sockets status
END
	exec "$B/nologd" -c "$D/nologd.conf" --state "$D/state" --run "$D/sockets"
}

bench()
{
	D=$B/bench
	fresh
	: >"$D/nologd.conf" # any server may report
	start
	# The limit is measured on the disk where the store is.
	"$B/nolog-bench" --run "$D/run" --dir "$D" sessions "$@"
	stop
	rm -rf "$D"
}

for p in nologd nologctl nolog-bench; do
	[ -x "$B/$p" ] || die "no $B/$p: run 'make' first"
done
umask 077
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
case ${1-} in
'') tour ;;
--run) run ;;
--bench)
	shift
	bench "$@"
	;;
*) die "unknown option: $1" ;;
esac
