package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

// script is a primary that reads what it expects and writes what it is told, byte for byte.
type script struct {
	t    testing.TB
	conn net.Conn
}

// expect reads what is wanted. Newlines before it are a second's sign of life, which may come at any time.
func (s script) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		got := make([]byte, len(w))
		n, err := 0, error(nil)
		for got[0] = '\n'; err == nil && got[0] == '\n'; {
			n, err = s.conn.Read(got[:1])
		}
		if err == nil {
			n, err = io.ReadFull(s.conn, got[1:])
			n++
		}
		require.NoError(s.t, err, "got %q, wanted %q", got[:n], w)
		require.Equal(s.t, w, string(got))
	}
}

func (s script) send(lines ...string) {
	s.t.Helper()
	for _, l := range lines {
		_, err := io.WriteString(s.conn, l)
		require.NoError(s.t, err)
	}
}

// acknowledged reads an acknowledgement.
func (s script) acknowledged() wal.Offset {
	s.t.Helper()
	var buf []byte
	for {
		b := make([]byte, 1)
		_, err := io.ReadFull(s.conn, b)
		require.NoError(s.t, err, "%q", buf)
		if len(buf) == 0 && b[0] == '\n' {
			continue
		}
		buf = append(buf, b...)
		args, n, err := wal.ReadRecord(buf)
		require.NoError(s.t, err)
		if n > 0 {
			ack, _, ok := parseAck(args)
			require.True(s.t, ok, "%q", buf)
			return ack
		}
	}
}

func cmd(args ...string) string { return string(command(args...)) }

// rig is a Replica whose primaries the test plays.
type rig struct {
	*Replica
	t     testing.TB
	f     *fake
	clock *fakeClock
	conns chan net.Conn
	fails chan error // OnFailover
}

func newRig(t testing.TB, c ReplicaConfig) *rig {
	g := &rig{t: t, f: newFake(t, id('0')), clock: newFakeClock(), conns: make(chan net.Conn), fails: make(chan error, 4)}
	g.f.replica = true
	n := 0
	g.Replica = NewReplica(ReplicaOptions{
		Sink: g.f, Clock: g.clock, Config: c, OnFailover: func(err error) { g.fails <- err },
		Rand: func() string { n++; return fmt.Sprintf("%040x", 0xf00+n) },
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case g.conns <- theirs:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	t.Cleanup(g.Stop)
	return g
}

func (g *rig) accept() script {
	g.t.Helper()
	var c net.Conn
	await(g.t, "a connection", func() bool {
		select {
		case c = <-g.conns:
			return true
		default:
			return false
		}
	}, func() {
		if g.State() == Connect {
			g.clock.Advance(1)
		}
	})
	g.t.Cleanup(func() { c.Close() })
	return script{g.t, c}
}

func (g *rig) state(s LinkState) {
	g.t.Helper()
	await(g.t, "state "+string(s), func() bool { return g.State() == s })
}

// failed waits until the attempt under way has ended with an error that says what.
func (g *rig) failed(what string) {
	g.t.Helper()
	await(g.t, "an error: "+what, func() bool { return g.Status().Err != nil })
	require.ErrorContains(g.t, g.Status().Err, what)
}

const (
	listening = "*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6380\r\n"
	capa      = "*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
)

// hello plays the handshake up to PSYNC.
func (s script) hello() {
	s.t.Helper()
	s.expect(cmd("PING"))
	s.send("+PONG\r\n")
	s.expect(listening, capa)
	s.send("+OK\r\n+OK\r\n")
}

func rdbOf(t testing.TB, data map[string]string) string {
	var b bytes.Buffer
	require.NoError(t, writeRDB(&b, data))
	return b.String()
}

func TestHandshakeFullSync(t *testing.T) {
	file := rdbOf(t, map[string]string{"k": "v"})
	mark := strings.Repeat("m", 40)
	for name, c := range map[string]struct {
		conf    ReplicaConfig
		ping    string   // reply to PING
		wants   []string // between PING and PSYNC
		replies string
		before  string // sent before the answer to PSYNC
		head    string
		tail    string
		ack     bool
	}{
		"length":                {ping: "+PONG\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
		"mark":                  {ping: "+PONG\r\n", head: "$EOF:" + mark + "\r\n", tail: mark, ack: true},
		"newlines all the time": {ping: "+PONG\r\n", before: "\n\n\n", head: fmt.Sprintf("\n\n$%d\r\n", len(file))},
		"password":              {conf: ReplicaConfig{Password: "secret"}, ping: "-NOAUTH Authentication required.\r\n", wants: []string{cmd("AUTH", "secret"), listening, capa}, replies: "+OK\r\n+OK\r\n+OK\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
		"user":                  {conf: ReplicaConfig{User: "repl", Password: "secret"}, ping: "-NOPERM no\r\n", wants: []string{cmd("AUTH", "repl", "secret"), listening, capa}, replies: "+OK\r\n+OK\r\n+OK\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
		"before 2.6":            {ping: "-ERR operation not permitted\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
		"address":               {conf: ReplicaConfig{IP: "10.1.1.1"}, ping: "+PONG\r\n", wants: []string{listening, cmd("REPLCONF", "ip-address", "10.1.1.1"), capa}, replies: "+OK\r\n+OK\r\n+OK\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
		"REPLCONF unknown":      {ping: "+PONG\r\n", replies: "-ERR Unrecognized REPLCONF option\r\n-ERR unknown\r\n", head: fmt.Sprintf("$%d\r\n", len(file))},
	} {
		t.Run(name, func(t *testing.T) {
			c.conf.Port = 6380
			g := newRig(t, c.conf)
			g.Start(Target{Host: "h", Port: 1})
			s := g.accept()
			s.expect(cmd("PING"))
			g.state(Handshake)
			s.send(c.ping)
			if c.wants == nil {
				c.wants = []string{listening, capa}
			}
			if c.replies == "" {
				c.replies = "+OK\r\n+OK\r\n"
			}
			s.expect(c.wants...)
			s.send(c.replies)
			s.expect(cmd("PSYNC", "?", "-1"))
			s.send(c.before, "+FULLRESYNC "+id('a')+" 1000\r\n")
			g.state(Syncing)
			s.send(c.head, file, c.tail)
			if c.ack {
				s.expect(cmd("REPLCONF", "ACK", "1000", "FACK", "1000"))
			}
			g.state(Connected)
			require.Equal(t, map[string]string{"k": "v"}, g.f.snapshotOf())
			gotID, end := g.f.Position()
			require.Equal(t, id('a'), gotID)
			require.EqualValues(t, 1000, end)

			// The stream, an acknowledgement each second, and GETACK answered with the offset before it.
			set, ask := cmd("SET", "a", "1"), cmd("REPLCONF", "GETACK", "*")
			s.send(set, ask)
			for ack := wal.Offset(0); ack != wal.Offset(1000+len(set)); { // a second's acknowledgement may come before it
				ack = s.acknowledged()
				require.LessOrEqual(t, int64(ack), int64(1000+len(set)))
			}
			require.EqualValues(t, 1000+len(set)+37, g.Status().Applied)
			require.Equal(t, set+ask, string(g.f.bytesOf(1000)), "R1")
			require.Equal(t, "1", g.f.snapshotOf()["a"])
			require.EqualValues(t, 1, g.Status().FullSyncs)
		})
	}
}

func TestHandshakeFailures(t *testing.T) {
	file := rdbOf(t, map[string]string{"k": "v"})
	hello := func(s script) { s.hello(); s.expect(cmd("PSYNC", "?", "-1")) }
	for name, c := range map[string]struct {
		play func(s script)
		want string
	}{
		"PING refused":     {func(s script) { s.expect(cmd("PING")); s.send("-LOADING no\r\n") }, "error reply to PING"},
		"MASTERDOWN":       {func(s script) { s.expect(cmd("PING")); s.send("-MASTERDOWN no\r\n") }, "error reply to PING"},
		"PING: no Redis":   {func(s script) { s.expect(cmd("PING")); s.send("HTTP/1.1 400\r\n") }, "error reply to PING"},
		"closed at PING":   {func(s script) { s.expect(cmd("PING")); s.conn.Close() }, "EOF"},
		"endless line":     {func(s script) { s.expect(cmd("PING")); s.send("+" + strings.Repeat("x", maxLine) + "\n") }, "line is too long"},
		"LOADING":          {func(s script) { hello(s); s.send("-LOADING Redis is loading\r\n") }, "unable to PSYNC but should be in the future"},
		"NOMASTERLINK":     {func(s script) { hello(s); s.send("-NOMASTERLINK Can't SYNC\r\n") }, "unable to PSYNC but should be in the future"},
		"CONTINUE unasked": {func(s script) { hello(s); s.send("+CONTINUE " + id('a') + "\r\n") }, "unexpected reply"},
		"short id":         {func(s script) { hello(s); s.send("+FULLRESYNC abc 5\r\n") }, "wrong +FULLRESYNC syntax"},
		"no offset":        {func(s script) { hello(s); s.send("+FULLRESYNC " + id('a') + "\r\n") }, "wrong +FULLRESYNC syntax"},
		"negative offset":  {func(s script) { hello(s); s.send("+FULLRESYNC " + id('a') + " -1\r\n") }, "wrong +FULLRESYNC syntax"},
		"nonsense":         {func(s script) { hello(s); s.send("+WHAT\r\n") }, "unexpected reply"},
		"SYNC refused": {func(s script) {
			hello(s)
			s.send("-ERR unknown command\r\n")
			s.expect("SYNC\r\n")
			s.send("-ERR no\r\n")
		}, "aborted replication with an error"},
		"no bulk":         {func(s script) { hello(s); s.send("+FULLRESYNC "+id('a')+" 5\r\n", "+OK\r\n") }, "should begin with '$'"},
		"negative length": {func(s script) { hello(s); s.send("+FULLRESYNC "+id('a')+" 5\r\n", "$-5\r\n") }, "should begin with '$'"},
		"snapshot cut": {func(s script) {
			hello(s)
			s.send("+FULLRESYNC "+id('a')+" 5\r\n", fmt.Sprintf("$%d\r\n", len(file)), file[:len(file)-1])
			s.conn.Close()
		}, "EOF"},
		"snapshot damaged": {func(s script) {
			hello(s)
			s.send("+FULLRESYNC "+id('a')+" 5\r\n", fmt.Sprintf("$%d\r\n", len(file)), file[:len(file)-1]+"x")
		}, "snapshot"},
		"more than a snapshot": {func(s script) {
			hello(s)
			s.send("+FULLRESYNC "+id('a')+" 5\r\n", fmt.Sprintf("$%d\r\n", len(file)+3), file, "xyz")
		}, "3 bytes behind the end"},
		"snapshot ends too soon": {func(s script) {
			hello(s)
			s.send("+FULLRESYNC "+id('a')+" 5\r\n", fmt.Sprintf("$%d\r\n", len(file)-9), file[:len(file)-9])
		}, "snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, ReplicaConfig{Port: 6380})
			g.f.data["old"] = "data"
			g.Start(Target{Host: "h", Port: 1})
			c.play(g.accept())
			g.failed(c.want)
			require.Equal(t, map[string]string{"old": "data"}, g.f.snapshotOf(), "the old data stay")
			gotID, _ := g.f.Position()
			require.Equal(t, id('0'), gotID)
			// And it tries again.
			g.accept().hello()
		})
	}

	t.Run("AUTH refused", func(t *testing.T) {
		g := newRig(t, ReplicaConfig{Port: 6380, Password: "x"})
		g.Start(Target{Host: "h", Port: 1})
		s := g.accept()
		s.expect(cmd("PING"))
		s.send("-NOAUTH Authentication required.\r\n")
		s.expect(cmd("AUTH", "x"))
		s.send("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
		g.failed("unable to AUTH to MASTER: -WRONGPASS")
	})
	t.Run("full sync refused by the hook", func(t *testing.T) {
		g := newRig(t, ReplicaConfig{Port: 6380})
		g.o.AcceptFull = func(string, wal.Offset) error { return errors.New("an empty primary") }
		g.Start(Target{Host: "h", Port: 1})
		s := g.accept()
		hello(s)
		s.send("+FULLRESYNC " + id('a') + " 0\r\n")
		g.failed("an empty primary")
	})
}

// A primary before PSYNC: SYNC, a new id of nobody's, no acknowledgements, and a full sync each time.
func TestHandshakeSync(t *testing.T) {
	g := newRig(t, ReplicaConfig{Port: 6380})
	g.Start(Target{Host: "h", Port: 1})
	file := rdbOf(t, map[string]string{"k": "v"})
	for i := range 2 {
		s := g.accept()
		s.hello()
		if i == 0 {
			s.expect(cmd("PSYNC", "?", "-1"))
		} else {
			s.expect(cmd("PSYNC", fmt.Sprintf("%040x", 0xf01), fmt.Sprint(1+len(cmd("SET", "a", "b")))))
		}
		s.send("-ERR unknown command 'PSYNC'\r\n")
		s.expect("SYNC\r\n")
		s.send("\n", fmt.Sprintf("$%d\r\n", len(file)), file)
		g.state(Connected)
		s.send(cmd("SET", "a", "b"))
		await(t, "the write", func() bool { return g.f.snapshotOf()["a"] == "b" })
		g.clock.Advance(3) // nobody acknowledges: a write to the pipe would block and show up as the next script's bytes
		gotID, end := g.f.Position()
		require.Equal(t, fmt.Sprintf("%040x", 0xf01+i), gotID)
		require.EqualValues(t, len(cmd("SET", "a", "b")), end)
		s.conn.Close()
	}
}

func TestHandshakeContinue(t *testing.T) {
	for name, c := range map[string]struct {
		reply string
		id    string
	}{
		"same id":      {"+CONTINUE " + id('a') + "\r\n", id('a')},
		"new id":       {"\n+CONTINUE " + id('b') + "\r\n", id('b')},
		"without id":   {"+CONTINUE\r\n", id('a')},
		"with newline": {"\n\n+CONTINUE\r\n", id('a')},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, ReplicaConfig{Port: 6380})
			require.NoError(t, g.f.log.BeginID(id('a')))
			end := g.f.set("x", "y")
			g.f.sync()
			// Begun at a start and never used: it asks with the one before.
			require.NoError(t, g.f.log.BeginID(id('e')))
			g.Start(Target{Host: "h", Port: 1})
			s := g.accept()
			s.hello()
			s.expect(cmd("PSYNC", id('a'), fmt.Sprint(int64(end)+1)))
			s.send(c.reply)
			g.state(Connected)
			gotID, _ := g.f.Position()
			require.Equal(t, c.id, gotID)
			require.Equal(t, []string{c.id}, g.f.adopted)
			s.send(cmd("SET", "x", "z"))
			await(t, "the write", func() bool { return g.f.snapshotOf()["x"] == "z" })
			require.EqualValues(t, 1, g.Status().Resumes)
			// The next time with the id it has taken.
			s.conn.Close()
			s = g.accept()
			s.hello()
			s.expect(cmd("PSYNC", c.id, fmt.Sprint(int64(end)+int64(len(cmd("SET", "x", "z")))+1)))
			s.send("+CONTINUE " + c.id + "\r\n")
			g.state(Connected)
			require.Len(t, g.f.adopted, 1)
		})
	}
	t.Run("wrong id", func(t *testing.T) {
		g := newRig(t, ReplicaConfig{Port: 6380})
		g.f.set("x", "y")
		g.Start(Target{Host: "h", Port: 1})
		s := g.accept()
		s.hello()
		s.expect(cmd("PSYNC", id('0'), "28"))
		s.send("+CONTINUE nonsense\r\n")
		g.failed("wrong +CONTINUE syntax")
		require.Empty(t, g.f.adopted)
	})
}

// After a full sync at offset 0, which leaves no byte to tell by, the next link asks with the id all the same.
func TestResumeAtOffsetZero(t *testing.T) {
	g := newRig(t, ReplicaConfig{Port: 6380})
	g.Start(Target{Host: "h", Port: 1})
	file := rdbOf(t, nil)
	s := g.accept()
	s.hello()
	s.expect(cmd("PSYNC", "?", "-1"))
	s.send("+FULLRESYNC "+id('a')+" 0\r\n", fmt.Sprintf("$%d\r\n", len(file)), file)
	g.state(Connected)
	s.conn.Close()
	s = g.accept()
	s.hello()
	s.expect(cmd("PSYNC", id('a'), "1"))
}

func TestFailoverTarget(t *testing.T) {
	start := func(t *testing.T) (*rig, script) {
		g := newRig(t, ReplicaConfig{Port: 6380})
		g.f.set("x", "y")
		g.f.sync()
		require.NoError(t, g.f.log.BeginID(id('e'))) // our replicas have followed it, without a write
		g.Start(Target{Host: "h", Port: 1, Failover: true})
		s := g.accept()
		s.hello()
		s.expect(cmd("PSYNC", id('e'), "28", "FAILOVER"))
		return g, s
	}
	t.Run("accepted", func(t *testing.T) {
		g, s := start(t)
		s.send("+CONTINUE " + id('b') + "\r\n")
		require.NoError(t, <-g.fails)
		g.state(Connected)
		s.conn.Close()
		s = g.accept()
		s.hello()
		s.expect(cmd("PSYNC", id('0'), "28")) // without FAILOVER; b has no bytes yet
		require.Empty(t, g.fails)
	})
	for _, reply := range []string{"-ERR PSYNC FAILOVER replid must match my replid.\r\n", "-LOADING\r\n", "+WHAT\r\n"} {
		t.Run("refused", func(t *testing.T) {
			g, s := start(t)
			s.send(reply)
			require.ErrorContains(t, <-g.fails, "failover target rejected psync request")
			await(t, "no more attempts", func() bool { return g.State() == Connect })
			g.Stop()
			require.Equal(t, None, g.State())
		})
	}
	t.Run("stopped", func(t *testing.T) {
		g, _ := start(t)
		g.Stop()
		require.Error(t, <-g.fails)
	})
}

// Silence beyond repl-timeout ends a link in every state; a primary that speaks keeps it.
func TestReplicaTimeouts(t *testing.T) {
	g := newRig(t, ReplicaConfig{Port: 6380})
	g.Start(Target{Host: "h", Port: 1})
	silence := func() {
		t.Helper()
		g.mu.Lock()
		g.mu.st.Err = nil
		g.mu.Unlock()
		await(t, "the end of patience", func() bool { return g.Status().Err != nil }, func() { g.clock.Advance(1) })
		require.ErrorIs(t, g.Status().Err, errTimeout)
	}
	g.accept().expect(cmd("PING"))
	silence()
	s := g.accept()
	s.hello()
	s.expect(cmd("PSYNC", "?", "-1"))
	for range 5 {
		s.send("\n")
		g.clock.Advance(40)
		require.Equal(t, Handshake, g.State())
	}
	silence()
	s = g.accept()
	s.hello()
	s.expect(cmd("PSYNC", "?", "-1"))
	s.send("+FULLRESYNC "+id('a')+" 9\r\n", "$100\r\n", "RED")
	silence()
	file := rdbOf(t, nil)
	s = g.accept()
	s.hello()
	s.expect(cmd("PSYNC", "?", "-1"))
	s.send("+FULLRESYNC "+id('a')+" 9\r\n", fmt.Sprintf("$%d\r\n", len(file)), file)
	g.state(Connected)
	go io.Copy(io.Discard, s.conn)
	for range 5 {
		s.send(cmd("PING"))
		await(t, "the PING", func() bool { st := g.Status(); return st.Read == st.Applied })
		g.clock.Advance(40)
		require.Equal(t, Connected, g.State())
	}
	silence()
}

// A record that cannot be applied is not asked for again: a snapshot is. One that has what is not known here is refused, and the primary then
// left alone for a while; one that has not leads past the record.
func TestForeignRecord(t *testing.T) {
	g := newRig(t, ReplicaConfig{Port: 6380})
	require.NoError(t, g.f.log.BeginID(id('a')))
	end := g.f.set("x", "y")
	g.f.sync()
	g.Start(Target{Host: "h", Port: 1})
	s := g.accept()
	s.hello()
	s.expect(cmd("PSYNC", id('a'), fmt.Sprint(int64(end)+1)))
	s.send("+CONTINUE " + id('a') + "\r\n")
	g.state(Connected)
	s.send(cmd("XADD", "s"))
	g.failed("unknown command XADD")

	answer := func(value string) {
		s = g.accept()
		s.hello()
		s.expect(cmd("PSYNC", "?", "-1"))
		file := rdbOf(t, map[string]string{"k": value})
		s.send("+FULLRESYNC "+id('a')+" 1000\r\n", fmt.Sprintf("$%d\r\n", len(file)), file)
	}
	answer("foreign")
	await(t, "the refusal", func() bool {
		return g.State() == Connect && strings.Contains(fmt.Sprint(g.Status().Err), "a foreign type")
	})
	require.Equal(t, map[string]string{"x": "y"}, g.f.snapshotOf())
	before := g.clock.Now()
	answer("v")
	require.GreaterOrEqual(t, g.clock.Now().Sub(before), (foreignPause-1)*time.Second)
	g.state(Connected)
	require.Equal(t, map[string]string{"k": "v"}, g.f.snapshotOf())
	s.conn.Close()
	s = g.accept()
	s.hello()
	s.expect(cmd("PSYNC", id('a'), "1001"))
}
