package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/engine"
)

// resp returns a reply or a message as it stands in protocol 2 or 3.
func resp(proto int, words ...string) string {
	b := fmt.Sprintf("*%d\r\n", len(words))
	if proto == 3 {
		b = fmt.Sprintf(">%d\r\n", len(words))
	}
	for _, w := range words {
		if n, ok := strings.CutPrefix(w, ":"); ok {
			b += ":" + n + "\r\n"
			continue
		}
		b += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// readAll reads n replies.
func (w *wire) readAll(n int) (out []string) {
	for range n {
		out = append(out, w.read())
	}
	return out
}

// What is sent at once is answered as redis-server answers it: CLIENT REPLY, and messages to oneself within a transaction.
func TestPubSubPipelines(t *testing.T) {
	for name, lines := range map[string]string{
		"off":         "CLIENT REPLY OFF\r\nSUBSCRIBE a b\r\nPUBLISH a x\r\nPING\r\nPSUBSCRIBE c\r\nUNSUBSCRIBE a\r\nUNSUBSCRIBE b\r\nPUNSUBSCRIBE\r\nNOSUCH\r\nCLIENT REPLY ON\r\n",
		"skip":        "CLIENT REPLY SKIP\r\nSUBSCRIBE a\r\nPING\r\nRESET\r\n",
		"skip self":   "HELLO 3\r\nSUBSCRIBE a\r\nCLIENT REPLY SKIP\r\nPUBLISH a x\r\nPING\r\n",
		"off in exec": "HELLO 3\r\nMULTI\r\nSUBSCRIBE a\r\nPUBLISH a x\r\nGET k\r\nCLIENT REPLY OFF\r\nUNSUBSCRIBE a\r\nEXEC\r\nPING\r\nCLIENT REPLY ON\r\n",
		"self":        "MULTI\r\nSUBSCRIBE a\r\nPSUBSCRIBE a*\r\nPUBLISH a m\r\nSPUBLISH a m\r\nUNSUBSCRIBE a\r\nPUBLISH a n\r\nPUNSUBSCRIBE\r\nEXEC\r\nPING\r\n",
		"self 3":      "HELLO 3\r\nMULTI\r\nSUBSCRIBE a\r\nPUBLISH a m\r\nUNSUBSCRIBE a\r\nPUBLISH a n\r\nEXEC\r\nPING\r\n",
		"quit":        "SUBSCRIBE a\r\nQUIT\r\nPING\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var got [2]string
			for i, addr := range []string{oracle(t), holdfast(t).Addr()} {
				w := dial(t, addr)
				// The end of what the server has to say is that of the connection.
				w.raw(lines + "RESET\r\nQUIT\r\n")
				for r := w.read(); r != ""; r = w.read() {
					if !strings.HasPrefix(r, "%7\r\n") { // HELLO: the id is the connection's
						got[i] += r
					}
				}
			}
			require.Equal(t, got[0], got[1])
		})
	}
}

// Where redis-server promises no order, all are told all the same.
func TestPubSubAllEnd(t *testing.T) {
	var got [2][][]string
	for i, addr := range []string{oracle(t), holdfast(t).Addr()} {
		w := dial(t, addr)
		w.send("SUBSCRIBE", "a", "b", "c")
		w.readAll(3)
		w.send("PSUBSCRIBE", "p", "q")
		w.readAll(2)
		w.send("SSUBSCRIBE", "s", "t")
		w.readAll(2)
		for cmd, n := range map[string]int{"UNSUBSCRIBE": 3, "PUNSUBSCRIBE": 2, "SUNSUBSCRIBE": 2} {
			w.send(cmd)
			var names, counts []string
			for _, r := range w.readAll(n) {
				p, _ := parseReply(t, r)
				require.Equal(t, strings.ToLower(cmd), p.items[0].text)
				names = append(names, p.items[1].text)
				counts = append(counts, p.items[2].text)
			}
			slices.Sort(names)
			// The order of the three commands is a map's: only the shards' counts are their own.
			if cmd == "SUNSUBSCRIBE" {
				names = append(names, counts...)
			}
			got[i] = append(got[i], names)
		}
		slices.SortFunc(got[i], slices.Compare)
		require.Equal(t, "+PONG\r\n", w.do("PING"))
	}
	require.Equal(t, got[0], got[1])
}

var pubsubFields = regexp.MustCompile(`flags=(\w+) .* sub=(\d+) psub=(\d+) ssub=(\d+) `)

// CLIENT LIST, CLIENT KILL and INFO know of subscriptions.
func TestPubSubClients(t *testing.T) {
	var got [2][]string
	for i, addr := range []string{oracle(t), holdfast(t).Addr()} {
		s, w := dial(t, addr), dial(t, addr)
		note := func(v ...string) { got[i] = append(got[i], v...) }
		list := func() { note(pubsubFields.FindStringSubmatch(w.do("CLIENT", "LIST", "TYPE", "pubsub"))...) }
		info := func() {
			for _, name := range []string{"pubsub_channels", "pubsub_patterns", "pubsubshard_channels"} {
				note(regexp.MustCompile(name + `:\d+`).FindString(w.do("INFO", "stats")))
			}
		}
		for _, args := range [][]string{{"SUBSCRIBE", "a"}, {"SUBSCRIBE", "b"}, {"PSUBSCRIBE", "c"}, {"SSUBSCRIBE", "d"}} {
			s.do(args...)
		}
		list()
		info()
		s.do("UNSUBSCRIBE", "a")
		list()
		info()
		note(w.do("CLIENT", "KILL", "TYPE", "pubsub"))
		note(w.do("PUBLISH", "b", "x"), w.do("PUBSUB", "NUMPAT"), w.do("PUBSUB", "SHARDNUMSUB", "d"))
		note(w.do("CLIENT", "KILL", "TYPE", "pubsub"))
		require.Equal(t, "", s.read(), "killed")
		info()
		// Whoever ends all subscriptions is a client like others.
		s = dial(t, addr)
		s.do("SUBSCRIBE", "a")
		s.do("UNSUBSCRIBE", "a")
		note(w.do("CLIENT", "KILL", "TYPE", "pubsub"))
	}
	for k := range got { // the whole match has ids and addresses
		got[k] = slices.DeleteFunc(got[k], func(s string) bool { return strings.HasPrefix(s, "flags=") })
	}
	require.Equal(t, got[0], got[1])
}

// CLIENT PAUSE … WRITE holds back messages, too.
func TestPubSubPaused(t *testing.T) {
	for _, addr := range []string{oracle(t), holdfast(t).Addr()} {
		s, p, admin := dial(t, addr), dial(t, addr), dial(t, addr)
		s.do("SUBSCRIBE", "a")
		require.Equal(t, "+OK\r\n", admin.do("CLIENT", "PAUSE", "100000", "WRITE"))
		p.send("PUBLISH", "a", "held")
		for !strings.Contains(admin.do("CLIENT", "LIST"), "flags=b") {
			require.Equal(t, resp(2, "pong", ""), s.do("PING"))
		}
		require.Equal(t, resp(2, "pong", ""), s.do("PING"))
		require.Equal(t, "+OK\r\n", admin.do("CLIENT", "UNPAUSE"))
		require.Equal(t, ":1\r\n", p.read())
		require.Equal(t, resp(2, "message", "a", "held"), s.read())
	}
}

// A subscriber that does not read is dropped at the limit of its class, and its subscriptions with it.
func TestPubSubSlowReader(t *testing.T) {
	srv := holdfast(t, "--client-output-buffer-limit", "pubsub 1mb 0 0")
	s, w := dial(t, srv.Addr()), dial(t, srv.Addr())
	s.do("SUBSCRIBE", "a")
	big := strings.Repeat("x", 200_000)
	dropped := false
	for range 10_000 { // the kernel's buffers take some
		if dropped = w.do("PUBLISH", "a", big) == ":0\r\n"; dropped {
			break
		}
	}
	require.True(t, dropped)
}

// wholeFS also sees what happens to the files of ReuseForWrite: Pebble reuses those of its commit log.
type wholeFS struct{ vfs.FS }

func (f wholeFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	bare, err := f.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	seen, err := f.OpenReadWrite(name, c)
	return seen, errors.Join(err, bare.Close())
}

// gatedFS is a file system whose syncs wait while it is shut.
func gatedFS(mem vfs.FS) (fs vfs.FS, shut func(), open func()) {
	var gate atomic.Pointer[chan struct{}]
	fs = wholeFS{errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if ch := gate.Load(); ch != nil {
				<-*ch
			}
		}
		return nil
	}))}
	shut = func() { ch := make(chan struct{}); gate.Store(&ch) }
	open = func() {
		if ch := gate.Swap(nil); ch != nil {
			close(*ch)
		}
	}
	return fs, shut, open
}

// A message leaves when what was written before it is on disk (A1); one before which nothing was written leaves at once, and so
// does everything under everysec.
func TestPubSubWaitsForDisk(t *testing.T) {
	fs, shut, open := gatedFS(vfs.NewMem())
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFlags([]string{"--bind", "127.0.0.1", "--dir", "data", "--appendfsync", "always"}))
	srv, err := Start(context.Background(), Options{Config: cfg, AnyPort: true,
		Engine: func(o *engine.Options) { o.FS, o.BallastBytes = fs, -1 }})
	require.NoError(t, err)
	defer func() {
		open() // where the test has failed
		require.NoError(t, srv.Close(context.Background()))
	}()
	s, other, p, free := dial(t, srv.Addr()), dial(t, srv.Addr()), dial(t, srv.Addr()), dial(t, srv.Addr())
	s.do("SUBSCRIBE", "a")
	other.do("SUBSCRIBE", "b")
	require.Equal(t, ":1\r\n", p.do("PUBLISH", "a", "0"))
	require.Equal(t, resp(2, "message", "a", "0"), s.read())

	shut()
	// In one slice, in a transaction, and from a client that has written nothing itself.
	p.raw("SET k 1\r\nPUBLISH a 1\r\nMULTI\r\nSET k 2\r\nPUBLISH a 2\r\nEXEC\r\n")
	eventually(t, "the writes are in the log", func() bool { return srv.Engine().ToldOutside() > 0 })
	require.Equal(t, ":1\r\n", free.do("PUBLISH", "a", "3"))
	require.Equal(t, ":1\r\n", free.do("PUBLISH", "b", "4"))
	s.send("PING")
	for range 100 { // each is a turn of the loop
		require.Equal(t, "+PONG\r\n", free.do("PING"))
	}
	require.Zero(t, s.arrived(), "a message came before what was written before it is durable (A1)")
	require.Zero(t, other.arrived(), "a message came before what was written before it is durable (A1)")
	require.Zero(t, p.arrived())
	open()
	require.Equal(t, resp(2, "message", "b", "4"), other.read())
	require.Equal(t, []string{resp(2, "message", "a", "1"), resp(2, "message", "a", "2"), resp(2, "message", "a", "3"), resp(2, "pong", "")}, s.readAll(4))
	require.Equal(t, []string{"+OK\r\n", ":1\r\n", "+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n+OK\r\n:1\r\n"}, p.readAll(6))

	require.Equal(t, "+OK\r\n", free.do("CONFIG", "SET", "appendfsync", "everysec"))
	shut()
	p.raw("SET k 1\r\nPUBLISH a 4\r\n")
	require.Equal(t, resp(2, "message", "a", "4"), s.read())
	open()
	require.Equal(t, []string{"+OK\r\n", ":1\r\n"}, p.readAll(2))
}

// arrived tells how many bytes have come that have not been read, without waiting.
func (w *wire) arrived() int {
	return w.r.Buffered() + (&testClient{t: w.t.(*testing.T), Conn: w.c}).arrived()
}

// Over connections, event loops and protocols: every subscriber has all messages in one order, each publisher's in its own, from
// the confirmation of a subscription to that of its end, and before the reply to what it asks after PUBLISH has been answered.
func TestPubSubOrder(t *testing.T) {
	for _, loops := range []string{"1", "3"} {
		t.Run("loops="+loops, func(t *testing.T) {
			srv := holdfast(t, "--io-threads", loops)
			const publishers, each, staying = 3, 300, 3
			subs := make([]*wire, staying)
			for i := range subs {
				subs[i] = dial(t, srv.Addr())
				if i > 0 {
					subs[i].do("HELLO", "3")
				}
				subs[i].do("SUBSCRIBE", "c")
			}
			var wg sync.WaitGroup
			for p := range publishers {
				w := dial(t, srv.Addr())
				wg.Go(func() {
					for i := range each {
						if i%10 == 0 {
							w.do("SET", "k"+strconv.Itoa(p), "v")
						}
						w.do("PUBLISH", "c", fmt.Sprint(p, " ", i))
					}
				})
			}
			// One comes and goes meanwhile.
			var come []string
			w := dial(t, srv.Addr())
			wg.Go(func() {
				for range 200 {
					w.raw("SUBSCRIBE c\r\nPING\r\nUNSUBSCRIBE c\r\n")
					for r := ""; !strings.Contains(r, "unsubscribe"); {
						r = w.read()
						come = append(come, r)
					}
				}
			})
			wg.Wait()
			var first []string
			for i, s := range subs {
				var got []string
				for range publishers * each {
					n, _ := parseReply(t, strings.Replace(s.read(), ">", "*", 1))
					require.Equal(t, "message", n.items[0].text)
					got = append(got, n.items[2].text)
				}
				if i == 0 {
					first = got
				}
				require.Equal(t, first, got)
				require.Contains(t, strings.ToLower(s.do("PING")), "pong", "more than was published")
			}
			next := [publishers]int{}
			for _, m := range first {
				var p, i int
				_, err := fmt.Sscan(m, &p, &i)
				require.NoError(t, err)
				require.Equal(t, next[p], i)
				next[p]++
			}
			open := false
			for _, r := range come {
				switch {
				case strings.Contains(r, "unsubscribe"):
					require.True(t, open)
					open = false
				case strings.Contains(r, "subscribe"):
					require.False(t, open)
					open = true
				default:
					require.True(t, open, "%q outside of the subscription", r)
				}
			}
			// Published and answered: whatever the subscriber asks from here on is answered behind the message.
			p := dial(t, srv.Addr())
			for i := range 200 {
				require.Equal(t, fmt.Sprintf(":%d\r\n", staying), p.do("PUBLISH", "c", strconv.Itoa(i)))
				require.Equal(t, resp(3, "message", "c", strconv.Itoa(i)), subs[1].do("PING"))
				require.Equal(t, "+PONG\r\n", subs[1].read())
			}
		})
	}
}

// A message on a primary is heard on its replicas, at its place among the writes, whoever they are; one on a replica stays there.
func TestPubSubReplicas(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (primary, replica string){
		"holdfast-holdfast": func(t *testing.T) (string, string) { return holdfast(t).Addr(), holdfast(t).Addr() },
		"holdfast-redis":    func(t *testing.T) (string, string) { return holdfast(t).Addr(), oracle(t) },
		"redis-holdfast": func(t *testing.T) (string, string) {
			return oracle(t, "--repl-diskless-sync-delay", "0"), holdfast(t).Addr()
		},
	} {
		t.Run(name, func(t *testing.T) {
			primary, replica := start(t)
			p, r, s := dial(t, primary), dial(t, replica), dial(t, replica)
			host, port, _ := strings.Cut(primary, ":")
			alone := offset(t, p)
			require.Equal(t, ":0\r\n", p.do("PUBLISH", "a", "nobody is attached"))
			if strings.HasPrefix(name, "holdfast") {
				require.Equal(t, alone, offset(t, p), "a message entered the log though nobody reads it")
			}
			require.Equal(t, "+OK\r\n", r.do("REPLICAOF", host, port))
			eventually(t, "the link is up", func() bool { return strings.Contains(r.do("INFO", "replication"), "master_link_status:up") })
			s.do("SUBSCRIBE", "a")
			s.do("PSUBSCRIBE", "p*")
			s.do("SSUBSCRIBE", "s")
			require.Equal(t, ":0\r\n", p.do("PUBLISH", "a", "1"))
			require.Equal(t, "+OK\r\n", p.do("SET", "k", "2"))
			require.Equal(t, ":0\r\n", p.do("PUBLISH", "pq", "2"))
			p.raw("MULTI\r\nSET k 3\r\nPUBLISH a 3\r\nSPUBLISH s 4\r\nSET k 4\r\nEXEC\r\n")
			require.Equal(t, "*4\r\n+OK\r\n:0\r\n:0\r\n+OK\r\n", p.readAll(6)[5])
			require.Equal(t, ":0\r\n", p.do("SPUBLISH", "s", "5"))
			require.Equal(t, []string{resp(2, "message", "a", "1"), resp(2, "pmessage", "p*", "pq", "2"), resp(2, "message", "a", "3"),
				resp(2, "smessage", "s", "4"), resp(2, "smessage", "s", "5")}, s.readAll(5))
			require.Equal(t, "$1\r\n4\r\n", r.do("GET", "k"))

			before := offset(t, p)
			require.Equal(t, ":1\r\n", r.do("PUBLISH", "a", "local"))
			require.Equal(t, resp(2, "message", "a", "local"), s.read())
			require.Equal(t, ":0\r\n", p.do("PUBLISH", "a", "last"))
			require.Equal(t, resp(2, "message", "a", "last"), s.read())
			require.Greater(t, offset(t, p), before)
			eventually(t, "the same offset", func() bool { return offset(t, r) == offset(t, p) })
		})
	}
}

var replOffset = regexp.MustCompile(`master_repl_offset:(\d+)`)

// offset is what INFO says of the stream's end.
func offset(t *testing.T, w *wire) int {
	m := replOffset.FindStringSubmatch(w.do("INFO", "replication"))
	require.NotNil(t, m)
	return atoi(t, m[1])
}
