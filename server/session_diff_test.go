package server

import (
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scripts are sequences of commands whose replies must be the bytes that redis-server sends, in both protocols. A line
// that begins with '~' is compared by the kind of its reply only: it carries ids, times or figures of a process.
var scripts = map[string]string{
	"errors of dispatch": `
		nosuch
		nosuch a b
		nosuch "with\nnewline" "nul\x00cut" ` + strings.Repeat("x", 200) + `
		` + strings.Repeat("y", 200) + ` ` + strings.Repeat("z", 100) + ` ` + strings.Repeat("z", 100) + `
		get
		get a b
		GET
		client
		client nosuch
		client nosuch a
		CLIENT "no\nsuch"
		config nosuch
		config|get a
		object
		command nosuch
		client setname
		client id extra
		slowlog nosuch
		latency nosuch
		memory nosuch
		acl nosuch
		auth
		select
		multi x
		watch
		echo
		debug`,
	"connection": `
		ping
		ping hello
		echo hi
		select 0
		select 15
		select 16
		select -1
		select abc
		select 99999999999999999999
		select 0
		auth x
		auth default x
		auth bob x
		auth a b c
		client getname
		client setname "a b"
		client setname ok
		client getname
		client setname ""
		client getname
		client setname "new\nline"
		~client id
		~client info
		~client list
		~client list id 1
		client list id
		client list id x
		client list type nosuch
		client list type pubsub
		client list nosuch
		client kill
		client kill 1.2.3.4:5
		client kill id x
		client kill id 0
		client kill id 99999
		client kill type nosuch
		client kill type pubsub
		client kill user nosuch
		client kill addr 1.2.3.4:5
		client kill addr
		client kill skipme maybe
		client kill skipme yes id 99999
		client kill nosuch 1
		client kill laddr 1.2.3.4:5 id
		client no-evict on
		client no-evict off
		client no-evict maybe
		client pause
		client pause x
		client pause -1
		client pause 0 sometimes
		client pause 0
		client pause 0 write
		client pause 1 write extra
		client unpause
		client unblock x
		client unblock 99999
		client unblock 99999 timeout
		client unblock 99999 error
		client unblock 99999 other
		client unblock 1 timeout extra
		client getredir
		client trackinginfo
		client reply nosuch
		client reply on
		~hello
		hello 4
		hello 1
		hello x
		hello 2 nosuch
		hello 2 auth a
		hello 2 auth a b
		hello 2 setname
		hello 2 setname "a b"
		~hello 2 setname fine
		client getname
		reset
		client getname
		acl whoami
		acl users
		acl list
		lolwut version x
		quit`,
	"transactions": `
		exec
		discard
		multi
		multi
		watch k
		set k 1
		get k
		exec
		multi
		set k
		exec
		multi
		nosuch
		set k 1
		exec
		multi
		client nosuch
		exec
		multi
		set k 2
		discard
		get k
		exec
		watch k
		watch k k2
		unwatch
		multi
		exec
		watch k
		set k 3
		multi
		set k 4
		exec
		get k
		watch k
		multi
		set k 5
		exec
		get k
		multi
		get k x
		discard
		multi
		exec x
		exec
		multi
		select 1
		set other 1
		select 0
		exec
		multi
		ping
		client setname inside
		client getname
		config set slowlog-max-len 100
		config get slowlog-max-len
		exec
		multi
		save
		exec
		multi
		shutdown
		discard
		multi
		monitor
		exec
		multi
		wait 1 1
		exec
		multi
		reset
		exec
		multi
		~client id
		unwatch
		~exec`,
	"configuration": `
		config set
		config set a
		config set a b c
		config set maxmemory foo
		config set appendfsync foo
		config set maxclients 0
		config set hz abc
		config set unixsocketperm 9
		config set slowlog-max-len 1 slowlog-max-len 2
		config set foo bar
		config set slowlog-max-len 5 foo bar
		config set slowlog-max-len 5 databases 3
		config get slowlog-max-len
		config set save foo
		config set save "1 2 3"
		config set client-output-buffer-limit foo
		config set client-output-buffer-limit "nosuch 1 2 3"
		config set client-output-buffer-limit "normal x 2 3"
		config set client-output-buffer-limit "pubsub 1mb 2mb 3"
		config get client-output-buffer-limit
		config set loglevel zz
		config set notify-keyspace-events q
		config set notify-keyspace-events KEA
		config get notify-keyspace-events
		config set notify-keyspace-events Kg$lshzxetdm
		config get notify-keyspace-events
		config set notify-keyspace-events gE
		config get notify-keyspace-events
		config set oom-score-adj-values 1
		config set oom-score-adj-values "1 2 3000"
		config set maxmemory-clients 200%
		config set maxmemory-clients 20%
		config get maxmemory-clients
		config set activedefrag yes
		config set timeout -1
		config set timeout 0
		config set lazyfree-lazy-expire 1
		config set lazyfree-lazy-expire YES
		config get lazyfree-lazy-expire
		config set shutdown-on-sigterm foo
		config set latency-tracking-info-percentiles 101
		config set latency-tracking-info-percentiles "50 99.99"
		config get latency-tracking-info-percentiles
		config set latency-tracking-info-percentiles abc
		config set maxmemory 100mb
		config get maxmemory
		config set maxmemory 0
		config set proto-max-bulk-len 1
		config set proto-max-bulk-len 1mb
		config get proto-max-bulk-len
		config set hash-max-ziplist-entries 7
		config get hash-max-listpack-entries
		config get HASH-max-ziplist-entries
		config set slowlog-log-slower-than -2
		config get nosuch
		config get slowlog-max-[l]en
		config get slowlog-max-l?n slowlog-max-len
		config rewrite
		config resetstat
		config resetstat x
		config help x`,
	"server": `
		~info
		~info server
		~info nosuch
		~info server clients
		~lastsave
		role x
		wait x 1
		wait 1 x
		wait 1 -1
		wait 0 0
		wait 1 1
		slowlog get -2
		slowlog get x
		slowlog get 0
		slowlog len x
		slowlog reset
		slowlog len
		latency latest
		latency graph nosuch
		latency graph
		latency history nosuch
		latency reset
		latency reset nosuch
		latency latest x
		replicaof no one
		slaveof NO ONE
		replicaof a b
		bgsave x
		bgsave schedule x
		shutdown x
		shutdown nosave save
		shutdown abort
		shutdown abort nosave
		memory purge
		~memory stats
		~memory doctor
		~memory malloc-stats
		debug nosuch
		debug sleep x y
		debug sleep 0
		debug sleep x
		debug sleep -1
		debug jmap
		debug object nosuch
		debug set-active-expire 1
		debug digest-value nosuch
		~dbsize
		~lolwut
		acl cat nosuch`,
	"command": `
		command getkeys get a
		command getkeys mset a b c d
		command getkeys set
		command getkeys nosuch a
		command getkeys ping
		command getkeys get
		command getkeysandflags get a
		command getkeysandflags set a b
		command getkeysandflags set a b ex 1 get
		command getkeysandflags bitfield a get u8 0
		command getkeysandflags bitfield a set u8 0 1
		command info nosuch
		command info get nosuch config|get
		command docs nosuch
		command list filterby
		command list filterby nosuch x
		command list filterby module x
		command list filterby pattern getran*
		command list filterby aclcat nosuch
		command list nosuch
		~command list
		~command count
		~command
		~command docs
		~command help
		~command docs get
		~client help
		~config help`,
	"replies off": `
		client reply skip`,
}

// kindOf reduces a reply to what must agree where the contents cannot.
var kindOf = regexp.MustCompile(`(?s)^(.).*`)

func TestSessionLikeRedis(t *testing.T) {
	theirs := oracle(t)
	ours := holdfast(t).Addr()
	for name, script := range scripts {
		for _, proto := range []string{"2", "3"} {
			t.Run(name+"/resp="+proto, func(t *testing.T) {
				a, b := dial(t, theirs), dial(t, ours)
				if proto == "3" {
					a.do("HELLO", "3")
					b.do("HELLO", "3")
				}
				for _, line := range strings.Split(script, "\n") {
					line = strings.TrimSpace(line)
					if line == "" {
						continue
					}
					loose := line[0] == '~'
					line = strings.TrimPrefix(line, "~")
					if strings.HasPrefix(line, "client reply skip") {
						continue
					}
					want, got := a.line(line), b.line(line)
					if loose {
						want, got = kindOf.ReplaceAllString(want, "$1"), kindOf.ReplaceAllString(got, "$1")
					}
					if want != got {
						t.Errorf("%s\n  redis:    %q\n  holdfast: %q", line, want, got)
					}
				}
			})
		}
	}
}

// A request of HTTP, as a page in a browser can send it, ends the connection before the commands in its body, as in Redis.
func TestHTTPIsCut(t *testing.T) {
	ours := holdfast(t)
	for name, addr := range map[string]string{"redis": oracle(t), "holdfast": ours.Addr()} {
		for _, request := range []string{"POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: x\r\n", "*1\r\n$4\r\npoSt\r\n", "MULTI\r\nHost: x\r\n"} {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			_, err = c.Write([]byte(request + "SET planted " + name + "\r\n"))
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = io.ReadAll(c) // ends, in order or by a reset
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "%s, %q", name, request)
			require.NoError(t, c.Close())
			require.Equal(t, "$-1\r\n", dial(t, addr).line("get planted"), "%s, %q", name, request)
		}
	}
}

func TestClientReplyModes(t *testing.T) {
	for _, addr := range []string{oracle(t), holdfast(t).Addr()} {
		w := dial(t, addr)
		w.raw("CLIENT REPLY SKIP\r\nPING\r\nPING a\r\n")
		require.Equal(t, "$1\r\na\r\n", w.read())
		w.raw("CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\nPING b\r\n")
		require.Equal(t, "+OK\r\n", w.read())
		require.Equal(t, "$1\r\nb\r\n", w.read())
	}
}

func TestAuth(t *testing.T) {
	theirs, ours := oracle(t, "--requirepass", "secret"), holdfast(t, "--requirepass", "secret").Addr()
	a, b := dial(t, theirs), dial(t, ours)
	for _, line := range []string{"ping", "get k", "nosuch", "get", "client setname x", "hello", "hello 3", "hello 2 setname x", "auth wrong",
		"auth default wrong", "auth bob secret", "hello 3 auth default wrong", "hello 3 auth bob secret", "auth secret", "ping",
		"reset", "ping", "auth default secret", "ping", "config set requirepass other", "ping", "config get requirepass", "acl list", "reset", "auth secret", "auth other", "ping"} {
		require.Equal(t, a.line(line), b.line(line), line)
	}
	// Before AUTH the limits of framing are tight.
	for _, raw := range []string{"*11\r\n", "*1\r\n$20000\r\n"} {
		a, b := dial(t, theirs), dial(t, ours)
		a.raw(raw)
		b.raw(raw)
		require.Equal(t, a.read(), b.read(), raw)
		require.Equal(t, "", b.read())
	}
}

var monitorLine = regexp.MustCompile(`^\+\d+\.\d{6} \[\d+ 127\.0\.0\.1:\d+\] `)

func TestMonitorLikeRedis(t *testing.T) {
	var got [2][]string
	for i, addr := range []string{oracle(t), holdfast(t).Addr()} {
		m, w := dial(t, addr), dial(t, addr)
		require.Equal(t, "+OK\r\n", m.do("MONITOR"))
		for _, line := range []string{"select 3", "set k \"a\\\"b\\n\\x01\\xff\"", "nosuch", "get", "config get port", "auth a b", "hello 3 auth x y",
			"multi", "set k 1", "get k", "exec", "debug sleep 0", "client list", "ping"} {
			w.line(line)
		}
		for {
			line := m.read()
			require.Regexp(t, monitorLine, line)
			got[i] = append(got[i], strings.SplitAfterN(line, "] ", 2)[1])
			if strings.Contains(line, `"ping"`) {
				break
			}
		}
		require.Contains(t, m.line("get k"), "-ERR Replica can't interact with the keyspace")
		require.Equal(t, "+RESET\r\n", m.line("reset"))
		require.NotContains(t, m.line("get k"), "-ERR Replica")
	}
	require.Equal(t, got[0], got[1])
}
