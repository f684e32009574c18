package replication

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

// player is a replica that the test plays.
type player struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func play(t testing.TB, s *peer) *player {
	ours, theirs := net.Pipe()
	s.serve(theirs)
	t.Cleanup(func() { ours.Close() })
	return &player{t, ours, bufio.NewReaderSize(ours, 1)}
}

func (p *player) send(b string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, b)
	require.NoError(p.t, err)
}

func (p *player) line() string {
	p.t.Helper()
	s, err := p.in.ReadString('\n')
	require.NoError(p.t, err, "%q", s)
	return strings.TrimSuffix(s, "\r\n")
}

func (p *player) expect(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.in, got)
	require.NoError(p.t, err, "got %q, wanted %q", got[:n], want)
	require.Equal(p.t, want, string(got))
}

// closed waits for the end of the connection.
func (p *player) closed() {
	p.t.Helper()
	_, err := io.Copy(io.Discard, p.in)
	require.NoError(p.t, err)
}

func (p *player) ack(off wal.Offset) { p.send(cmd("REPLCONF", "ACK", fmt.Sprint(int64(off)))) }
func (p *player) ackDisk(off, disk wal.Offset) {
	p.send(cmd("REPLCONF", "ACK", fmt.Sprint(int64(off)), "FACK", fmt.Sprint(int64(disk))))
}

// request sends a command and reads its one line.
func (p *player) request(args ...string) string {
	p.t.Helper()
	p.send(cmd(args...))
	return p.line()
}

// follow makes it a replica that stands at off.
func (p *player) follow(id string, off wal.Offset) *player {
	p.t.Helper()
	require.Equal(p.t, "+OK", p.request("REPLCONF", "capa", "eof", "capa", "psync2"))
	require.Equal(p.t, "+CONTINUE "+id, p.request("PSYNC", id, fmt.Sprint(int64(off)+1)))
	return p
}

func one(t testing.TB, s *peer) ReplicaInfo {
	t.Helper()
	all := s.p.Replicas()
	require.Len(t, all, 1)
	return all[0]
}

func TestWait(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended, end := context.WithCancel(ctx)
	end()
	require.Zero(t, s.p.WaitAcks(ended, 0, 1, false), "nobody there")
	f.set("k", "v")
	f.sync()
	start := f.log.End()
	a, b := play(t, s).follow(id('a'), start), play(t, s).follow(id('a'), start)
	await(t, "both online", func() bool {
		r := s.p.Replicas()
		return len(r) == 2 && r[0].State == StateOnline && r[1].State == StateOnline
	})
	require.Zero(t, s.p.CountAcks(0, false), "who has not acknowledged does not count")

	off := f.set("a", "b")
	got := make(chan int, 2)
	go func() { got <- s.p.WaitAcks(ctx, off, 2, false) }()
	go func() { got <- s.p.WaitAcks(ctx, off, 1, true) }()
	want := cmd("SET", "a", "b") + cmd("REPLCONF", "GETACK", "*")
	a.expect(want)
	b.expect(want)
	a.ackDisk(off-1, off-1)
	a.ackDisk(off, off-1)
	b.ack(off)
	require.Equal(t, 2, <-got)
	require.Equal(t, 2, s.p.CountAcks(off, false))
	require.Zero(t, s.p.CountAcks(off, true))
	require.Equal(t, off, s.p.AckedBy(2, false))
	require.EqualValues(t, -1, s.p.AckedBy(2, true), "b does not say what it has on disk")
	require.Equal(t, off-1, s.p.AckedBy(1, true))
	require.EqualValues(t, -1, s.p.AckedBy(3, false))
	a.ackDisk(off, off)
	require.Equal(t, 1, <-got)
	f.sync()
	require.EqualValues(t, int(off)+GetackLen, f.log.End(), "one GETACK for both")

	// Who waits in vain gets the count.
	off = f.set("c", "d")
	ctx2, cancel2 := context.WithCancel(ctx)
	go func() { got <- s.p.WaitAcks(ctx2, off, 2, false) }()
	a.expect(cmd("SET", "c", "d") + cmd("REPLCONF", "GETACK", "*"))
	b.expect(cmd("SET", "c", "d") + cmd("REPLCONF", "GETACK", "*"))
	a.ack(off)
	await(t, "the acknowledgement", func() bool { return s.p.CountAcks(off, false) == 1 })
	cancel2()
	require.Equal(t, 1, <-got)
	// An older acknowledgement does not take back a newer one.
	a.ack(off - 5)
	a.send("\n")
	require.Equal(t, 1, s.p.CountAcks(off, false))
}

func TestGoodReplicasPingsAndTimeout(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: 60 * time.Second, PingPeriod: 10 * time.Second, MaxLag: 10 * time.Second})
	clock.Advance(101) // one more than the period, so that the tick that is due has been dealt with
	require.EqualValues(t, 0, f.log.End(), "nobody there to ping")
	a := play(t, s).follow(id('a'), 0)
	await(t, "online", func() bool { return s.p.GoodReplicas() == 1 })
	clock.Advance(10)
	a.expect(cmd("PING"))
	require.Equal(t, 1, s.p.GoodReplicas())
	clock.Advance(1)
	require.Zero(t, s.p.GoodReplicas())
	require.Equal(t, 11*time.Second, one(t, s).Lag)
	a.ack(14)
	await(t, "the acknowledgement", func() bool { return s.p.GoodReplicas() == 1 })
	s.p.SetQuiet(true)
	clock.Advance(30)
	require.EqualValues(t, len(cmd("PING")), f.log.End())
	s.p.SetQuiet(false)
	a.send("\n\n") // signs of life
	await(t, "newlines", func() bool {
		s.p.mu.Lock()
		defer s.p.mu.Unlock()
		return s.p.mu.links[0].silentLocked(clock.Now()) == 0
	})
	clock.Advance(60)
	require.Equal(t, 1, s.p.Len())
	clock.Advance(1)
	a.closed()
	await(t, "dropped", func() bool { return s.p.Len() == 0 })
}

// A replica that does not read blocks nobody, holds nothing, and stays as long as it speaks; one that neither reads nor
// speaks goes after repl-timeout.
func TestStalledReplica(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: 60 * time.Second, PingPeriod: never})
	stalled, mute, well := play(t, s).follow(id('a'), 0), play(t, s).follow(id('a'), 0), play(t, s).follow(id('a'), 0)
	value := strings.Repeat("x", 10_000)
	var want strings.Builder
	for i := range 300 { // far more than the shared tail holds
		f.set(fmt.Sprint(i), value)
		want.WriteString(cmd("SET", fmt.Sprint(i), value))
	}
	f.sync()
	well.expect(want.String())
	for range 3 {
		for _, p := range []*player{stalled, well} {
			p.ack(0)
			p.send("\n") // the first is in its reader's hands once the second is taken
		}
		clock.Advance(40)
	}
	mute.closed()
	await(t, "the mute one is dropped", func() bool { return s.p.Len() == 2 })
	stalled.expect(want.String()) // not a byte is missing
	require.EqualValues(t, 0, s.p.Stats().SyncFull)
	require.EqualValues(t, 3, s.p.Stats().SyncPartialOK)
}

func TestFullSyncKinds(t *testing.T) {
	file := func(t *testing.T, f *fake) string { return rdbOf(t, f.snapshotOf()) }
	start := func(t *testing.T, c PrimaryConfig) (*fake, *peer, *fakeClock, *player) {
		f, clock := newFake(t, id('a')), newFakeClock()
		f.set("k", "v")
		c.Timeout, c.PingPeriod = 60*time.Second, never
		s := newPeer(t, f, clock, c)
		return f, s, clock, play(t, s)
	}
	t.Run("mark, stream held until the first acknowledgement", func(t *testing.T) {
		f, s, clock, p := start(t, PrimaryConfig{})
		p.request("REPLCONF", "listening-port", "6382")
		p.request("REPLCONF", "capa", "eof", "capa", "psync2")
		f.hold = make(chan struct{})
		p.send(cmd("PSYNC", "?", "-1"))
		await(t, "the snapshot is asked for", func() bool { return clock.running() == 2 }) // the primary's ticker and the link's
		for range 70 {                                                                     // longer than the timeout: newlines that it takes keep it
			clock.Advance(1)
			p.expect("\n")
		}
		require.Equal(t, StateWait, one(t, s).State)
		close(f.hold)
		require.Equal(t, fmt.Sprintf("+FULLRESYNC %s %d", id('a'), int64(f.log.End())), p.line())
		c := f.log.End()
		mark := fmt.Sprintf("%040x", 1)
		require.Equal(t, "$EOF:"+mark, p.line())
		p.expect(file(t, f) + mark)
		f.set("x", "y")
		f.sync()
		for range 3 {
			p.send("\n") // it loads
			clock.Advance(30)
		}
		st := one(t, s)
		require.Equal(t, StateBulk, st.State)
		require.Zero(t, st.Sent)
		require.Equal(t, 6382, st.Port)
		pins, views := f.held()
		require.Equal(t, 1, pins)
		p.ack(c)
		p.expect(cmd("SET", "x", "y"))
		await(t, "online", func() bool { return one(t, s).State == StateOnline })
		p.ack(f.log.End())
		await(t, "nothing is held", func() bool { pins, views = f.held(); return pins == 0 && views == 0 })
	})
	t.Run("length", func(t *testing.T) {
		f, s, _, p := start(t, PrimaryConfig{Spooled: true})
		p.request("REPLCONF", "capa", "eof", "capa", "psync2")
		require.Equal(t, fmt.Sprintf("+FULLRESYNC %s %d", id('a'), int64(f.log.End())), p.request("PSYNC", "?", "-1"))
		require.Equal(t, fmt.Sprintf("$%d", len(file(t, f))), p.line())
		p.expect(file(t, f))
		f.set("x", "y")
		p.expect(cmd("SET", "x", "y")) // at once
		require.EqualValues(t, len(file(t, newSame(t))), one(t, s).Snapshot)
	})
	for _, capa := range []string{"", "eof"} { // a replica says SYNC also where PSYNC was answered with an error
		t.Run("SYNC "+capa, func(t *testing.T) {
			f, s, clock, p := start(t, PrimaryConfig{})
			if capa != "" {
				p.request("REPLCONF", "capa", capa)
			}
			p.send("SYNC\r\n")
			require.Equal(t, fmt.Sprintf("$%d", len(file(t, f))), p.line())
			p.expect(file(t, f))
			f.set("x", "y")
			p.expect(cmd("SET", "x", "y"))
			await(t, "nothing is held", func() bool { pins, views := f.held(); return pins == 0 && views == 0 })
			clock.Advance(200)
			require.Equal(t, 1, s.p.Len(), "it never acknowledges, so silence says nothing")
		})
	}
	t.Run("rdb-only", func(t *testing.T) {
		f, s, _, p := start(t, PrimaryConfig{})
		p.request("REPLCONF", "rdb-only", "1")
		p.send("SYNC\r\n")
		require.Equal(t, fmt.Sprintf("$%d", len(file(t, f))), p.line())
		p.expect(file(t, f))
		p.closed()
		await(t, "gone", func() bool { return s.p.Len() == 0 })
	})
	t.Run("rdb-only without keys", func(t *testing.T) {
		_, _, _, p := start(t, PrimaryConfig{})
		p.request("REPLCONF", "rdb-only", "1", "rdb-filter-only", "functions", "capa", "eof")
		p.send("SYNC\r\n")
		mark := fmt.Sprintf("%040x", 1)
		require.Equal(t, "$EOF:"+mark, p.line())
		p.expect(rdbOf(t, nil) + mark)
		p.closed()
	})
	t.Run("silent while it loads", func(t *testing.T) {
		_, s, clock, p := start(t, PrimaryConfig{})
		p.request("REPLCONF", "capa", "eof")
		p.send(cmd("PSYNC", "?", "-1"))
		drain(p.conn)
		await(t, "sent", func() bool { return s.p.Len() == 1 && one(t, s).Snapshot > 0 })
		clock.Advance(62)
		await(t, "dropped", func() bool { return s.p.Len() == 0 })
	})
	t.Run("an older id and no capa psync2", func(t *testing.T) {
		f, s, _, p := start(t, PrimaryConfig{})
		f.sync()
		end := f.log.End()
		require.Equal(t, "+CONTINUE", p.request("PSYNC", id('a'), fmt.Sprint(int64(end)+1)))
		require.NoError(t, f.log.BeginID(id('b')))
		p = play(t, s)
		require.Contains(t, p.request("PSYNC", id('a'), fmt.Sprint(int64(end)+1)), "+FULLRESYNC "+id('b'))
	})
}

// The log syncs without pause while a replica gets the stream (W5), and not for one that has a snapshot before it.
func TestOnlyAStreamIsSynced(t *testing.T) {
	f := newFake(t, id('a'))
	s := newPeer(t, f, newFakeClock(), PrimaryConfig{Timeout: 60 * time.Second, PingPeriod: never})
	p := play(t, s)
	f.log.SetPolicy(wal.No)
	durable := func(want bool) {
		t.Helper()
		f.set("x", "y")
		end := f.log.End()
		if want {
			await(t, "durable", func() bool { return f.log.Durable() == end })
			return
		}
		require.NoError(t, f.log.WaitWritten(context.Background(), end))
		require.Less(t, f.log.Durable(), end)
	}
	durable(false)
	p.request("REPLCONF", "capa", "eof", "capa", "psync2")
	c := f.log.End()
	require.Equal(t, fmt.Sprintf("+FULLRESYNC %s %d", id('a'), int64(c)), p.request("PSYNC", "?", "-1"))
	mark := fmt.Sprintf("%040x", 1)
	require.Equal(t, "$EOF:"+mark, p.line())
	p.expect(rdbOf(t, f.snapshotOf()) + mark)
	durable(false)
	p.ack(c)
	p.expect(cmd("SET", "x", "y"))
	durable(true)
	require.NoError(t, p.conn.Close())
	await(t, "gone", func() bool { return s.p.Len() == 0 })
	durable(false)
}

// newSame is a fake with what TestFullSyncKinds begins with.
func newSame(t *testing.T) *fake {
	f := newFake(t, id('a'))
	f.set("k", "v")
	return f
}

// Full syncs at the same time have a view each, at the offset where each began.
func TestFullSyncsAtOnce(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	f.filler = 3 << 20 // larger than all buffers on the way
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never})
	var players []*player
	var want []map[string]string
	for i := range 4 {
		f.set("k", fmt.Sprint(i))
		f.sync()
		p := play(t, s)
		p.request("REPLCONF", "capa", "eof", "capa", "psync2")
		require.Equal(t, fmt.Sprintf("+FULLRESYNC %s %d", id('a'), int64(f.log.End())), p.request("PSYNC", "?", "-1"))
		data := f.snapshotOf()
		data["filler"] = strings.Repeat("x", f.filler)
		players, want = append(players, p), append(want, data)
	}
	pins, views := f.held()
	require.Equal(t, []int{4, 4}, []int{pins, views})
	for i := range players {
		p := players[len(players)-1-i]
		head := p.line()
		p.expect(rdbOf(t, want[len(players)-1-i]) + strings.TrimPrefix(head, "$EOF:"))
	}
	for i, p := range players {
		at := wal.Offset((i + 1) * len(cmd("SET", "k", "0")))
		p.ack(at)
		for j := i + 1; j < 4; j++ {
			p.expect(cmd("SET", "k", fmt.Sprint(j)))
		}
		p.ack(f.log.End())
	}
	await(t, "nothing is held", func() bool { pins, views := f.held(); return pins == 0 && views == 0 })
}

func TestPauseDisconnectClose(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never})
	p := play(t, s).follow(id('a'), 0)
	s.p.Disconnect()
	require.Zero(t, s.p.Len())
	p.closed()
	p = play(t, s).follow(id('a'), 0)

	// A replica that is back before its old link has ended is none to wait for.
	s.p.mu.Lock()
	links := s.p.dropLocked(errReplaced)
	s.p.mu.Unlock()
	p.closed()
	p = play(t, s).follow(id('a'), 0)
	waitFor(links)
	require.Equal(t, 1, s.p.Len())

	s.p.Pause()
	s.p.Pause()
	p.closed()
	p = play(t, s)
	require.Equal(t, "-"+errLoading, p.request("PSYNC", id('a'), "1"))
	p.closed()
	s.p.Resume()
	require.Equal(t, "-"+errLoading, play(t, s).request("PSYNC", id('a'), "1"))
	s.p.Resume()
	p = play(t, s).follow(id('a'), 0)
	waited := make(chan int)
	go func() { waited <- s.p.WaitAcks(context.Background(), 100, 1, false) }()
	p.expect(cmd("REPLCONF", "GETACK", "*"))
	s.p.Close()
	s.p.Close()
	require.Zero(t, <-waited)
	p.closed()
	require.Equal(t, "-ERR server is shutting down", play(t, s).request("PSYNC", id('a'), "1"))
}

// What a replica sends beside acknowledgements is passed over, up to a limit; garbage ends the link.
func TestWhatReplicasSend(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeer(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never})
	p := play(t, s).follow(id('a'), 0)
	for i, text := range []string{"\r\n\nREPLCONF ACK 1\r\n", "replconf ack 2\n", cmd("PING") + cmd("REPLCONF", "ACK", "3"), cmd("REPLCONF", "GETACK", "*") + cmd("replconf", "Ack", "4", "fack", "4")} {
		for _, c := range []byte(text) {
			p.send(string(c))
		}
		await(t, "the acknowledgement", func() bool { return one(t, s).Ack == wal.Offset(i+1) })
	}
	f.set("k", "v")
	p.expect(cmd("SET", "k", "v")) // and no reply before it
	for _, bad := range []string{"*1\r\nx", "*x\r\n", strings.Repeat("x", ackBuf+1)} {
		p = play(t, s).follow(id('a'), 0)
		_, _ = io.WriteString(p.conn, bad)
		p.closed()
	}
	await(t, "the first is still there", func() bool { return s.p.Len() == 1 })
}
