package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// trackingScripts: "a" tracks, "b" is another client; what "a" is pushed after each line must be what redis-server pushes, and
// stand where it stands among the replies.
var trackingScripts = map[string]string{
	"default": `
		a hello 3
		a client trackinginfo
		a client getredir
		a client tracking on
		a client trackinginfo
		a client getredir
		a get k
		b set k 1
		b set k 2
		a get k
		a set k 3
		a mget k l m
		b mset k 1 l 2 m 3
		a get k
		b expire k 100
		a ttl k
		b del k
		a exists h
		b hset h f v
		a hget h f
		b hdel h nosuch
		b hdel h f
		a lrange q 0 -1
		b rpush q x
		a llen q
		b lpop q
		a select 2
		a get z
		b set z 1
		a select 0
		a get r
		b rename z y
		b set r 1
		a get r
		b flushdb
		a get r
		b set r 1
		a multi
		a get r
		a set r 2
		a get r
		a set other 1
		a exec
		a get r
		b multi
		b set r 3
		b set r 4
		b exec
		a client tracking off
		a get r
		b set r 5
		a client getredir
		a client tracking on noloop
		a get r
		a set r 6
		a get r
		b set r 7
		a client trackinginfo
		a reset`,
	"opt in": `
		a hello 3
		a client tracking on optin
		a client trackinginfo
		a get k
		b set k 1
		a client caching no
		a client caching maybe
		a client caching yes
		a client trackinginfo
		a get k
		a get l
		b set l 1
		b set k 2
		a client caching yes
		a multi
		a get k
		a get l
		a exec
		a get m
		b mset k 1 l 1 m 1
		a client caching yes
		a nosuch
		a get k
		b set k 1
		a client tracking on optout
		a client tracking off`,
	"opt out": `
		a hello 3
		a client tracking on optout
		a get k
		b set k 1
		a client caching yes
		a client caching no
		a client trackinginfo
		a get k
		a get l
		b set k 1
		b set l 1`,
	"broadcast": `
		a hello 3
		a client tracking on bcast prefix user: prefix item:
		a client trackinginfo
		a client tracking on bcast prefix user:1
		a client tracking on bcast prefix x prefix xy
		a client tracking on bcast prefix other:
		a client trackinginfo
		b set user:1 x
		b set nosuch x
		b mset item:1 a user:7 b
		b set other:1 x
		a set user:2 x
		b del user:1 user:2 user:3
		b multi
		b set user:1 1
		b set user:1 2
		b set user:3 2
		b exec
		b flushall
		a client tracking off
		a client tracking on bcast
		b set anything 1
		a client tracking off
		a client tracking on bcast noloop
		a set anything 2
		b set anything 3`,
	"errors": `
		a client tracking
		a client tracking maybe
		a client tracking on nosuch
		a client tracking on prefix x
		a client tracking on prefix
		a client tracking on bcast optin
		a client tracking on optin optout
		a client tracking on redirect
		a client tracking on redirect x
		a client tracking on redirect 99999
		a client caching yes
		a client tracking on
		a client caching yes
		a client tracking on bcast
		a client tracking off
		a client tracking off
		a get k
		b set k 1`,
}

func TestTrackingLikeRedis(t *testing.T) {
	theirs := oracle(t)
	ours := holdfast(t).Addr()
	for name, script := range trackingScripts {
		t.Run(name, func(t *testing.T) {
			var servers [2]map[string]*wire
			for i, addr := range []string{theirs, ours} {
				servers[i] = map[string]*wire{"a": dial(t, addr), "b": dial(t, addr)}
				servers[i]["b"].line("flushall")
			}
			queueing := false
			for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
				line = strings.TrimSpace(line)
				queueing = (queueing || line == "a multi") && line != "a exec"
				var got [2]string
				for i, clients := range servers {
					who, command, _ := strings.Cut(line, " ")
					got[i] = clients[who].line(command)
					if !queueing {
						got[i] += pushed(clients["a"], strings.Count(got[0], ">"))
					}
				}
				if !strings.HasPrefix(line, "a hello") {
					require.Equal(t, got[0], got[1], line)
				}
			}
		})
	}
}

// pushed returns what a client is pushed before the reply to a PING, or after it, while there are less than n messages.
func pushed(w *wire, n int) string {
	out := ""
	for range 20 {
		w.send("PING")
		for r := w.read(); r != "+PONG\r\n"; r = w.read() {
			out += r
		}
		if strings.Count(out, ">") >= n {
			break
		}
	}
	return out
}

// What one client reads another is told of; when that has gone, the first is told that.
func TestTrackingRedirected(t *testing.T) {
	for _, addr := range []string{oracle(t), holdfast(t).Addr()} {
		a, b, to := dial(t, addr), dial(t, addr), dial(t, addr)
		to.do("HELLO", "3")
		a.do("HELLO", "3")
		id := strings.Trim(to.line("client id"), ":\r\n")
		require.Equal(t, "+OK\r\n", a.line("client tracking on redirect "+id))
		require.Equal(t, ":"+id+"\r\n", a.line("client getredir"))
		require.Contains(t, a.line("client info"), " redir="+id+" ")
		require.Contains(t, a.line("client info"), "flags=t ")
		a.line("get k")
		b.line("set k 1")
		require.Equal(t, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", to.read())
		require.Equal(t, "", pushed(a, 0))
		require.NoError(t, to.c.Close())
		until(t, "it has gone", func() bool { return !strings.Contains(b.line("client list"), "id="+id+" ") })
		a.line("get k")
		b.line("set k 2")
		require.Equal(t, ">2\r\n$21\r\ntracking-redir-broken\r\n:"+id+"\r\n", pushed(a, 1))
		require.Contains(t, a.line("client trackinginfo"), "broken_redirect")
		require.Contains(t, a.line("client info"), "flags=tR ")

		// A client that speaks RESP2 gets messages once it has subscribed.
		to = dial(t, addr)
		id = strings.Trim(to.line("client id"), ":\r\n")
		require.Equal(t, "+OK\r\n", a.line("client tracking on redirect "+id))
		require.NotContains(t, a.line("client trackinginfo"), "broken_redirect")
		a.line("get k")
		b.line("set k 3")
		to.line("subscribe __redis__:invalidate")
		a.line("get k")
		b.line("set k 4")
		require.Equal(t, "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n", to.read())
		b.line("flushall")
		// Redis sends the null of the protocol of the client that tracks, which this one does not speak.
		require.Regexp(t, `^\*3\r\n\$7\r\nmessage\r\n\$20\r\n__redis__:invalidate\r\n(_|\$-1)\r\n$`, to.read())
	}
}

// Expired keys are invalidated; the table keeps to its limit; INFO counts; a client that leaves is forgotten.
func TestTrackingTable(t *testing.T) {
	s := holdfast(t)
	a, b := dial(t, s.Addr()), dial(t, s.Addr())
	a.do("HELLO", "3")
	a.line("client tracking on")
	b.line("set e 1 px 100")
	require.Equal(t, "$1\r\n1\r\n", a.line("get e"))
	require.Equal(t, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\ne\r\n", a.read())
	b.line("config set tracking-table-max-keys 10")
	for i := range 30 {
		a.line(fmt.Sprint("get k", i))
		if i >= 10 {
			pushed(a, 1)
		}
	}
	require.Contains(t, b.line("info clients"), "tracking_clients:1\r\n")
	require.Contains(t, b.line("info stats"), "tracking_total_keys:10\r\ntracking_total_items:10\r\ntracking_total_prefixes:0\r\n")
	require.NoError(t, a.c.Close())
	until(t, "it is forgotten", func() bool { return strings.Contains(b.line("info clients"), "tracking_clients:0\r\n") })
	require.Contains(t, b.line("info stats"), "tracking_total_keys:0\r\n")
}
