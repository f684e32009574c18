package replication

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is both ends against each other.
type pair struct {
	t        testing.TB
	up, down *fake
	peer     *peer
	r        *Replica
	clock    *fakeClock
}

// never is a time limit that no test reaches by retrying.
const never = 24 * 365 * time.Hour

func newPair(t testing.TB, c PrimaryConfig, wrap func(n int, c net.Conn) net.Conn) *pair {
	p := &pair{t: t, up: newFake(t, id('a')), down: newFake(t, id('0')), clock: newFakeClock()}
	c.Timeout, c.PingPeriod = never, never
	p.peer = newPeer(t, p.up, p.clock, c)
	p.down.replica = true
	p.r = NewReplica(ReplicaOptions{Sink: p.down, Clock: p.clock, Dial: p.peer.dial(wrap), Config: ReplicaConfig{Port: 6380, Timeout: never}})
	t.Cleanup(p.r.Stop)
	return p
}

func (p *pair) start() { p.r.Start(Target{Host: "h", Port: 1}) }

// retry lets a second pass if the replica waits for it.
func (p *pair) retry() {
	if p.r.State() == Connect {
		p.clock.Advance(1)
	}
}

// same waits until the replica has everything, and compares data and logs (R1).
func (p *pair) same() {
	p.t.Helper()
	p.up.sync()
	await(p.t, "the replica has everything", func() bool {
		_, a := p.up.Position()
		_, b := p.down.Position()
		return a == b && p.r.State() == Connected
	}, p.retry)
	require.Equal(p.t, sorted(p.up.snapshotOf()), sorted(p.down.snapshotOf()))
	from := max(p.up.log.First(), p.down.log.First())
	require.Equal(p.t, string(p.up.bytesOf(from)), string(p.down.bytesOf(from)), "R1")
	a, _ := p.up.Position()
	b, _ := p.down.Position()
	require.Equal(p.t, a, b)
}

// history is a stream of many kinds of record.
func (p *pair) history(from int) {
	for i := range 4 {
		p.up.set(fmt.Sprint("k", from+i), strings.Repeat("v", i*5))
	}
	p.up.mu.Lock()
	p.up.data["m"] = fmt.Sprint(from)
	p.up.log.Append(bytes.Join([][]byte{command("MULTI"), command("SET", "m", fmt.Sprint(from)), command("EXEC")}, nil), 0, 0)
	p.up.log.Kick()
	p.up.mu.Unlock()
}

// A connection that is cut after any byte in either direction, in the handshake, the snapshot or the stream, costs nothing:
// no record is lost, doubled or halved, and a stream that had begun goes on without a second full sync.
func TestCutAtEveryByte(t *testing.T) {
	for _, spooled := range []bool{false, true} {
		for _, outward := range []bool{false, true} {
			t.Run(fmt.Sprintf("spooled=%v/from=%s", spooled, map[bool]string{true: "replica", false: "primary"}[outward]), func(t *testing.T) {
				for cut, done := 0, false; !done; cut++ {
					if testing.Short() && cut%7 != 0 {
						continue
					}
					t.Run(fmt.Sprint(cut), func(t *testing.T) {
						var first *cutConn
						p := newPair(t, PrimaryConfig{Spooled: spooled}, func(n int, c net.Conn) net.Conn {
							cc := &cutConn{Conn: c, in: -1, out: -1}
							if n == 0 {
								first = cc
								if outward {
									cc.out = cut
								} else {
									cc.in = cut
								}
							}
							return cc
						})
						p.history(0)
						p.start()
						await(t, "the first link is up, or gone", func() bool {
							st := p.r.Status()
							return st.State == Connected || st.Err != nil
						})
						wasUp := p.r.Status().FullSyncs == 1
						p.history(10)
						p.up.append("REPLCONF", "GETACK", "*") // has the replica write in the stream, too
						p.same()
						p.history(20)
						p.same()
						st := p.peer.p.Stats()
						if wasUp {
							require.EqualValues(t, 1, st.SyncFull, "one full sync is enough")
						}
						require.EqualValues(t, 1, p.r.Status().FullSyncs)
						require.Equal(t, 1, p.down.commits)
						first.mu.Lock()
						done = first.in > 0 || first.out > 0 // the cut lies beyond the end
						first.mu.Unlock()
						p.r.Stop()
						p.peer.p.Close()
						pins, views := p.up.held()
						require.Zero(t, pins)
						require.Zero(t, views)
						require.Zero(t, p.peer.p.Len())
					})
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// Cut after each byte of the stream again and again: every link brings one byte more than a whole number of records, or less.
func TestCutsWithoutEnd(t *testing.T) {
	per := 0
	p := newPair(t, PrimaryConfig{}, func(n int, c net.Conn) net.Conn {
		if n == 0 {
			return c
		}
		per++
		return &cutConn{Conn: c, in: 70 + per, out: -1} // the handshake takes 70 or so
	})
	p.start()
	p.same()
	p.peer.p.Disconnect()
	for i := range 20 {
		p.history(10 * i)
	}
	await(t, "the replica has everything", func() bool {
		_, a := p.up.Position()
		_, b := p.down.Position()
		return a == b
	}, p.retry)
	require.Equal(t, sorted(p.up.snapshotOf()), sorted(p.down.snapshotOf()))
	require.EqualValues(t, 1, p.peer.p.Stats().SyncFull)
}

// A primary that restarts begins a new id; so does one that was promoted. Replicas within the lineage go on.
func TestNewIDs(t *testing.T) {
	p := newPair(t, PrimaryConfig{}, nil)
	p.history(0)
	p.start()
	p.same()
	for _, c := range []byte("bcd") {
		p.up.sync()
		require.NoError(t, p.up.log.BeginID(id(c)))
		p.peer.p.Disconnect()
		await(t, "the new id", func() bool { got, _ := p.down.Position(); return got == id(c) }, p.retry)
		p.same()
	}
	p.r.Stop()
	require.NoError(t, p.up.log.BeginID(id('e')))
	p.history(30)
	p.up.sync()
	require.NoError(t, p.up.log.BeginID(id('f')))
	p.history(40)
	p.start()
	p.same()
	require.EqualValues(t, 1, p.peer.p.Stats().SyncFull)
	require.Equal(t, []string{id('b'), id('c'), id('d'), id('f')}, p.down.adopted)

	// One that wrote by itself under an id of its own gets a full sync, and loses what nobody else has.
	p.r.Stop()
	p.down.sync()
	require.NoError(t, p.down.log.BeginID(id('9')))
	p.down.set("alone", "x")
	p.down.sync()
	p.start()
	p.same()
	require.NotContains(t, p.down.snapshotOf(), "alone")
	require.EqualValues(t, 2, p.peer.p.Stats().SyncFull)
	require.EqualValues(t, 1, p.peer.p.Stats().SyncPartialErr)
}

// A chain of three: the one in the middle passes on the same bytes, is paused while it takes over a snapshot, and cuts its
// own replicas when the id changes.
func TestChain(t *testing.T) {
	top, mid, low := newFake(t, id('a')), newFake(t, id('0')), newFake(t, id('1'))
	mid.replica, low.replica = true, true
	clock := newFakeClock()
	conf := PrimaryConfig{Timeout: never, PingPeriod: 10 * time.Second}
	topPeer, midPeer := newPeer(t, top, clock, conf), newPeer(t, mid, clock, conf)
	replica := func(f *fake, of *peer, down *Primary) *Replica {
		r := NewReplica(ReplicaOptions{Sink: f, Clock: clock, Dial: of.dial(nil), Downstream: down, Config: ReplicaConfig{Timeout: never}})
		t.Cleanup(r.Stop)
		r.Start(Target{Host: "h", Port: 1})
		return r
	}
	for i := range 10 {
		top.set(fmt.Sprint(i), "v")
	}
	midReplica := replica(mid, topPeer, midPeer.p)
	midPeer.mu.Lock()
	midPeer.standing = func() Standing {
		id, _ := mid.Position()
		return Standing{Replica: true, LinkUp: midReplica.State() == Connected, ID: id}
	}
	midPeer.mu.Unlock()
	lowReplica := replica(low, midPeer, nil)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("middle %+v, at %d, of %q; low %+v, at %d, of %q; top at %d", midReplica.Status(), mid.log.End(), topPeer.requests(), lowReplica.Status(), low.log.End(), midPeer.requests(), top.log.End())
		}
	})
	same := func() {
		t.Helper()
		top.sync()
		await(t, "the chain is in step", func() bool {
			i, a := top.Position()
			j, b := mid.Position()
			k, c := low.Position()
			return a == b && b == c && i == j && j == k && lowReplica.State() == Connected
		}, func() {
			if lowReplica.State() == Connect || midReplica.State() == Connect {
				clock.Advance(1)
			}
		})
		require.Equal(t, top.snapshotOf(), low.snapshotOf())
	}
	same()
	require.NoError(t, top.log.BeginID(id('b')))
	topPeer.p.Disconnect()
	same()
	top.set("x", "y")
	same()
	require.EqualValues(t, 1, midPeer.p.Stats().SyncFull)
	// The replica in the middle emits nothing of its own; the PINGs of the top come through.
	clock.Advance(31) // one more than three periods, so that the last PING is in the log
	same()
	first := max(top.log.First(), low.log.First())
	require.Equal(t, string(top.bytesOf(first)), string(low.bytesOf(first)))
	require.Contains(t, string(low.bytesOf(first)), cmd("PING"))

	// Its data set is replaced under its replica: that one is cut, and follows.
	midReplica.Stop()
	mid.sync()
	require.NoError(t, mid.log.BeginID(id('c')))
	midPeer.p.Disconnect() // or its replica would have bytes of c's as b's, which a later b could fit by chance (W3)
	mid.set("stray", "1")
	mid.sync()
	midReplica.Start(Target{Host: "h", Port: 1})
	same()
	require.NotContains(t, low.snapshotOf(), "stray")
}

// Stop and Start in the middle of everything: nothing touches the sink afterwards, and the new role works.
func TestRoleChangesUnderWay(t *testing.T) {
	t.Run("while the primary prepares", func(t *testing.T) {
		p := newPair(t, PrimaryConfig{}, nil)
		p.up.hold = make(chan struct{})
		p.start()
		await(t, "PSYNC", func() bool { return len(p.peer.requests()) == 1 })
		p.r.Stop()
		require.Equal(t, None, p.r.State())
		await(t, "the primary has noticed", func() bool { return p.peer.p.Len() == 0 })
		close(p.up.hold)
	})
	t.Run("while the snapshot is committed", func(t *testing.T) {
		p := newPair(t, PrimaryConfig{}, nil)
		p.down.data["old"] = "data"
		p.down.holdLoad, p.down.loading = make(chan struct{}), make(chan struct{}, 1)
		p.start()
		<-p.down.loading
		p.r.Stop()
		require.Equal(t, map[string]string{"old": "data"}, p.down.snapshotOf())
		p.down.holdLoad = nil
		p.history(0)
		p.start()
		p.same()
	})
	t.Run("in the middle of a record", func(t *testing.T) {
		g := newRig(t, ReplicaConfig{Port: 6380})
		require.NoError(t, g.f.log.BeginID(id('a')))
		end := g.f.set("x", "y")
		g.Start(Target{Host: "h", Port: 1})
		s := g.accept()
		s.hello()
		s.expect(cmd("PSYNC", id('a'), fmt.Sprint(int64(end)+1)))
		whole, part := cmd("SET", "x", "z"), cmd("MULTI")+cmd("SET", "x", "half")
		s.send("+CONTINUE\r\n", whole, part)
		await(t, "all of it", func() bool { return int(g.Status().Read) == int(end)+len(whole)+len(part) })
		await(t, "the whole record", func() bool { return int(g.Status().Applied) == int(end)+len(whole) })
		g.Stop()
		require.Equal(t, "z", g.f.snapshotOf()["x"])
		_, now := g.f.Position()
		require.EqualValues(t, int(end)+len(whole), now)
		g.Start(Target{Host: "other", Port: 2})
		s = g.accept()
		s.hello()
		s.expect(cmd("PSYNC", id('a'), fmt.Sprint(int64(now)+1)))
		require.Equal(t, "other", g.Status().Target.Host)
	})
	t.Run("while it connects", func(t *testing.T) {
		g := newRig(t, ReplicaConfig{})
		g.Start(Target{Host: "h", Port: 1})
		g.state(Connecting)
		g.Start(Target{Host: "h", Port: 2})
		g.state(Connecting)
		g.Stop()
		g.Stop()
	})
}

// FAILOVER: the old primary asks its replica to take over and follows it; the third one too.
func TestFailover(t *testing.T) {
	clock := newFakeClock()
	conf := PrimaryConfig{Timeout: never, PingPeriod: never}
	a, b := newFake(t, id('a')), newFake(t, id('0'))
	aPeer, bPeer := newPeer(t, a, clock, conf), newPeer(t, b, clock, conf)
	b.replica = true
	br := NewReplica(ReplicaOptions{Sink: b, Clock: clock, Dial: aPeer.dial(nil), Downstream: bPeer.p, Config: ReplicaConfig{Timeout: never}})
	t.Cleanup(br.Stop)
	br.Start(Target{Host: "a", Port: 1})
	bPeer.standing = func() Standing {
		id, _ := b.Position()
		b.mu.Lock()
		defer b.mu.Unlock()
		return Standing{Replica: b.replica, LinkUp: br.State() == Connected, ID: id}
	}
	bPeer.promote = func() {
		br.Stop()
		b.sync()
		b.mu.Lock()
		b.replica = false
		b.mu.Unlock()
		require.NoError(t, b.log.BeginID(id('b')))
		bPeer.p.Disconnect()
	}
	off := a.set("k", "v")
	a.sync()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.Equal(t, 1, func() int {
		await(t, "b is attached", func() bool { return br.State() == Connected })
		return aPeer.p.WaitAcks(ctx, off, 1, false)
	}())

	// a steps down and asks b.
	a.mu.Lock()
	a.replica = true
	a.mu.Unlock()
	a.sync()
	_, end := a.Position()
	await(t, "b has all of it", func() bool { _, e := b.Position(); return e == end })
	told := make(chan error, 1)
	ar := NewReplica(ReplicaOptions{Sink: a, Clock: clock, Dial: bPeer.dial(nil), Downstream: aPeer.p, Config: ReplicaConfig{Timeout: never}, OnFailover: func(err error) { told <- err }})
	t.Cleanup(ar.Stop)
	ar.Start(Target{Host: "b", Port: 1, Failover: true})
	require.NoError(t, <-told)
	b.set("k", "w")
	await(t, "a follows b", func() bool { return a.snapshotOf()["k"] == "w" })
	require.EqualValues(t, 0, bPeer.p.Stats().SyncFull)
	gotID, _ := a.Position()
	require.Equal(t, id('b'), gotID)
}

// drain reads all that comes.
func drain(c net.Conn) { go func() { _, _ = io.Copy(io.Discard, c) }() }
