package replication

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

const mb = 1_000_000

// What is estimated and chosen, rates given.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name                     string
		replay, snapshot, behind int64
		r                        rates
		choice                   SyncChoice
		tables                   bool
		want                     bool
		why                      string
	}{
		{name: "little, by any rates", replay: littleToRead - 1, snapshot: 1, r: rates{replay: 1}, why: "little"},
		{name: "little, even if told to", replay: 0, snapshot: 1, choice: ChooseSnapshot, why: "little"},
		{name: "nothing measured, a small store", replay: 1000 * mb, snapshot: 350 * mb, want: true, why: "sooner"},
		{name: "nothing measured, a large store", replay: 1000 * mb, snapshot: 3500 * mb, why: "not clearly"},
		{name: "tables are four times sooner", replay: 1000 * mb, snapshot: 2000 * mb, tables: true, want: true, why: "sooner"},
		{name: "not clearly", replay: 1000 * mb, snapshot: 900 * mb, r: rates{replay: 60 * mb, rdb: 60 * mb}, why: "not clearly"},
		{name: "clearly, since measured", replay: 1000 * mb, snapshot: 600 * mb, r: rates{replay: 60 * mb, rdb: 60 * mb}, want: true, why: "sooner"},
		{name: "not clearly, since guessed", replay: 1000 * mb, snapshot: 600 * mb, r: rates{replay: 60 * mb}, why: "not clearly"},
		{name: "not worth it", replay: 280 * mb, snapshot: mb, why: "not clearly"},
		{name: "worth it", replay: 310 * mb, snapshot: mb, want: true, why: "sooner"},
		{name: "a replica that replays fast", replay: 1000 * mb, snapshot: 350 * mb, r: rates{replay: 300 * mb}, why: "not clearly"},
		{name: "a line that is slow", replay: 1000 * mb, snapshot: 350 * mb, r: rates{rdb: 10 * mb}, why: "not clearly"},
		{name: "the log behind the snapshot counts", replay: 1000 * mb, snapshot: 350 * mb, behind: 600 * mb, why: "not clearly"},
		{name: "told to replay", replay: 100000 * mb, snapshot: 1, choice: ChooseReplay, why: "repl-sync-choice is replay"},
		{name: "told to send a snapshot", replay: 100 * mb, snapshot: 100000 * mb, choice: ChooseSnapshot, want: true, why: "repl-sync-choice is snapshot"},
		{name: "size not known", replay: 100000 * mb, snapshot: -1, why: "not known"},
		{name: "an empty store", replay: 1000 * mb, snapshot: 0, want: true, why: "sooner"},
		{name: "no time is long enough", replay: 1 << 62, snapshot: 1 << 62, r: rates{replay: 1e-9, rdb: 1e-9}, why: "not clearly"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := estimate(c.replay, c.snapshot, c.behind, c.r)
			s := e.RDB
			if c.tables {
				s = e.Tables
			}
			got, why := choose(c.choice, e, s)
			require.Equal(t, c.want, got, "%+v", e)
			require.Contains(t, why, c.why)
			require.Equal(t, c.r.replay > 0, e.Replay.Measured)
			require.GreaterOrEqual(t, s.Time, time.Duration(0))
		})
	}
	e := estimate(120*mb, 60*mb, 30*mb, rates{})
	require.Equal(t, 2*time.Second, e.Replay.Time)
	require.Equal(t, 1500*time.Millisecond, e.RDB.Time)
	require.Equal(t, 740*time.Millisecond, e.Tables.Time)
}

// Rates follow what is measured, newer seconds more than older ones, and a replica's own more than others'.
func TestMeters(t *testing.T) {
	var m meter
	m.add(100*mb, 2*time.Second)
	require.InDelta(t, 50*mb, float64(m), 1)
	m.add(0, time.Second)
	m.add(mb, 0)
	require.InDelta(t, 50*mb, float64(m), 1)
	for range 60 {
		m.add(100*mb, time.Second)
	}
	require.InDelta(t, 100*mb, float64(m), mb)

	var e estimator
	require.Equal(t, rates{}, e.rates("a"))
	e.note("a", func(m *meters) { m.replay.add(10*mb, time.Second) })
	e.note("b", func(m *meters) { m.tables.add(90*mb, time.Second) })
	require.InDelta(t, 10*mb, e.rates("a").replay, 1)
	require.InDelta(t, 90*mb, e.rates("a").tables, 1, "of all, for want of its own")
	require.InDelta(t, 10*mb, e.rates("new").replay, 1)
	e.note("b", func(m *meters) { m.replay.add(1000*mb, 100*time.Second) })
	e.note("b", func(m *meters) { m.replay.add(1000*mb, 10*time.Second) })
	require.InDelta(t, 10*mb, e.rates("a").replay, 1)
	require.Greater(t, e.rates("b").replay, float64(50*mb))
	for i := range 3 * maxMeters {
		e.note(fmt.Sprint(i), func(m *meters) { m.rdb.add(1, time.Second) })
	}
	require.Len(t, e.each, maxMeters)
	require.Len(t, e.order, maxMeters)
}

// Only the progress of a replica that is behind all the time tells how fast it is.
func TestProgress(t *testing.T) {
	var p progress
	at := time.Unix(1_700_000_000, 0)
	ack := func(off, durable wal.Offset, after time.Duration) (int64, time.Duration) {
		at = at.Add(after)
		return p.ack(off, durable, at)
	}
	none := func(n int64, d time.Duration) { t.Helper(); require.Zero(t, n); require.Zero(t, d) }
	const far = 100 * mb
	none(ack(0, far, 0))
	none(ack(mb, far, 100*time.Millisecond)) // too soon: gathers
	n, d := ack(10*mb, far, 900*time.Millisecond)
	require.EqualValues(t, 10*mb, n)
	require.Equal(t, time.Second, d)
	none(ack(10*mb, far, time.Second)) // stuck: tells nothing
	n, d = ack(12*mb, far, time.Second)
	require.EqualValues(t, 2*mb, n)
	require.Equal(t, time.Second, d)
	none(ack(far-mb, far, time.Second)) // in step: there was no more to read
	none(ack(far, 2*far, time.Second))  // behind from here on
	n, _ = ack(far+mb, 2*far, time.Second)
	require.EqualValues(t, mb, n)
}

// fakeSlots notes what it is told.
type fakeSlots struct {
	mu    sync.Mutex
	calls []string
	err   error
}

func (s *fakeSlots) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *fakeSlots) Attach(name string, off wal.Offset) error {
	s.note("attach %s %d", name, off)
	return s.err
}
func (s *fakeSlots) Move(name string, off wal.Offset) { s.note("move %s %d", name, off) }
func (s *fakeSlots) Detach(name string)               { s.note("detach %s", name) }

func (s *fakeSlots) told(call string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.calls) > 0 && s.calls[len(s.calls)-1] == call
	}
}

func (s *fakeSlots) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// A named replica's slot hears of it: where it stands when it comes, what it has on disk, and when it goes.
func TestNamedReplica(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	slots := &fakeSlots{}
	s := newPeerWith(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) { o.Slots = slots })
	off := f.set("k", "v")
	f.sync()
	named := func(name, ip string) *player {
		p := play(t, s)
		require.Equal(t, "+OK", p.request("REPLCONF", "replica-name", name))
		require.Equal(t, "+OK", p.request("REPLCONF", "ip-address", ip))
		return p.follow(id('a'), off)
	}
	for _, bad := range []string{"", "a b", "ä", strings.Repeat("x", 65)} {
		require.Equal(t, "-"+errName, play(t, s).request("REPLCONF", "replica-name", bad))
	}
	a := named("r-1", "10.0.0.1")
	require.True(t, slots.told(fmt.Sprintf("attach r-1 %d", off))())
	require.Equal(t, "r-1", one(t, s).Name)
	a.ackDisk(off, off-3)
	await(t, "what is on disk counts", slots.told(fmt.Sprintf("move r-1 %d", off-3)))
	a.ack(off - 1)
	await(t, "what is in memory, for who has no disk", slots.told(fmt.Sprintf("move r-1 %d", off-1)))

	// Another one under the same name: the newest counts.
	b := named("r-1", "10.0.0.2")
	require.True(t, slots.told(fmt.Sprintf("attach r-1 %d", off))())
	a.ack(off)
	b.ackDisk(off, off)
	await(t, "the newest is heard", slots.told(fmt.Sprintf("move r-1 %d", off)))
	before := slots.all()
	a.conn.Close()
	await(t, "the older one is gone", func() bool { return s.p.Len() == 1 })
	require.Equal(t, before, slots.all())
	b.conn.Close()
	await(t, "both are gone", func() bool { return s.p.Len() == 0 })
	await(t, "and that is told", slots.told("detach r-1"))

	// A full sync, and a slot that cannot be had: the link is served all the same.
	slots.err = wal.ErrTrimmed
	c := play(t, s)
	require.Equal(t, "+OK", c.request("REPLCONF", "replica-name", "r-2"))
	require.Equal(t, "+OK", c.request("REPLCONF", "capa", "eof"))
	require.Contains(t, c.request("PSYNC", "?", "-1"), "+FULLRESYNC")
	require.True(t, slots.told(fmt.Sprintf("attach r-2 %d", off))())
	require.Contains(t, c.line(), "$EOF:")
	c.conn.Close()
	await(t, "detached", slots.told("detach r-2"))
	// Nobody's name.
	before = slots.all()
	d := play(t, s).follow(id('a'), off)
	d.ack(off)
	d.conn.Close()
	await(t, "gone", func() bool { return s.p.Len() == 0 })
	require.Equal(t, before, slots.all())
}

// Our replica says its name if it has one.
func TestReplicaSaysItsName(t *testing.T) {
	for _, name := range []string{"", "r-1"} {
		slots := &fakeSlots{}
		up, down, clock := newFake(t, id('a')), newFake(t, id('0')), newFakeClock()
		down.replica = true
		s := newPeerWith(t, up, clock, PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) { o.Slots = slots })
		r := NewReplica(ReplicaOptions{Sink: down, Clock: clock, Dial: s.dial(nil), Config: ReplicaConfig{Port: 6380, Timeout: never, Name: name}})
		off := up.set("k", "v")
		up.sync()
		r.Start(Target{Host: "h", Port: 1})
		await(t, "connected", func() bool { return r.State() == Connected })
		require.Equal(t, name, one(t, s).Name)
		if name != "" {
			await(t, "its disk is told", slots.told(fmt.Sprintf("move r-1 %d", off)))
		}
		r.Stop()
		await(t, "gone", func() bool { return s.p.Len() == 0 })
		if name == "" {
			require.Empty(t, slots.all())
		}
	}
}

// A replica far behind gets a snapshot if that is sooner, continues if not, and Explain says the same.
func TestFarBehind(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	var mu sync.Mutex
	size, at := int64(0), wal.Offset(0)
	set := func(n int64, o wal.Offset) { mu.Lock(); size, at = n, o; mu.Unlock() }
	s := newPeerWith(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) {
		o.SnapshotSize = func() (int64, wal.Offset) { mu.Lock(); defer mu.Unlock(); return size, at }
	})
	value := strings.Repeat("v", 1<<20)
	off := f.set("first", "v")
	for range 70 {
		f.set("k", value)
		f.sync()
	}
	end := f.log.End()
	ask := func(from wal.Offset) string {
		p := play(t, s)
		require.Equal(t, "+OK", p.request("REPLCONF", "capa", "eof", "capa", "psync2"))
		line := p.request("PSYNC", id('a'), fmt.Sprint(int64(from)+1))
		p.conn.Close()
		await(t, "gone", func() bool { return s.p.Len() == 0 })
		return line
	}
	const full, cont = "+FULLRESYNC", "+CONTINUE"
	set(mb, end)
	require.Contains(t, ask(off), cont, "a second is not worth it")
	s.p.speed.note("h", func(m *meters) { m.replay.add(10*mb, time.Second) })
	require.Contains(t, ask(off), full)
	require.Contains(t, ask(end-1000), cont, "little to read")
	x := s.p.Explain("", int64(off)+1)
	require.True(t, x.Continue)
	require.True(t, x.Snapshot)
	require.True(t, x.Tables)
	require.EqualValues(t, end-off, x.Estimate.Replay.Bytes)
	require.EqualValues(t, mb, x.Estimate.Tables.Bytes)
	require.False(t, s.p.Explain(id('a'), int64(end)+1).Snapshot)
	require.False(t, s.p.Explain(id('b'), 1).Continue)
	require.NotEmpty(t, s.p.Explain(id('b'), 1).Why)

	set(mb, off) // a store that has no more than the replica: it would go nowhere
	require.Contains(t, ask(off), cont)
	set(1000*mb, end)
	require.Contains(t, ask(off), cont)
	set(-1, end)
	require.Contains(t, ask(off), cont)
	s.p.SetConfig(PrimaryConfig{Timeout: never, PingPeriod: never, SyncChoice: ChooseSnapshot})
	set(1000*mb, end)
	require.Contains(t, ask(off), full)
	require.Contains(t, ask(end), cont, "nothing to read")
	s.p.SetConfig(PrimaryConfig{Timeout: never, PingPeriod: never, SyncChoice: ChooseReplay})
	set(mb, end)
	require.Contains(t, ask(off), cont)
	require.Equal(t, ChooseReplay, s.p.Explain("", 1).Choice)

	st := s.p.Stats()
	require.EqualValues(t, 2, st.SyncChosen)
	require.EqualValues(t, 2, st.SyncFull)
	require.Zero(t, st.SyncPartialErr, "nothing was refused")
}

// Acknowledgements of a replica that catches up, and of one that has loaded a snapshot, are what rates come from.
func TestRatesFromAcks(t *testing.T) {
	f, clock := newFake(t, id('a')), newFakeClock()
	s := newPeerWith(t, f, clock, PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) {
		o.SnapshotSize = func() (int64, wal.Offset) { return 40 * mb, f.log.Durable() }
	})
	value := strings.Repeat("v", 1<<20)
	off := f.set("k", "v")
	for range 30 {
		f.set("k", value)
		f.sync()
	}
	p := play(t, s)
	require.Equal(t, "+OK", p.request("REPLCONF", "listening-port", "6380"))
	p.follow(id('a'), off)
	for i := range 5 {
		at := off + 1 + wal.Offset(i)*3*mb // not what it had when it came: each is seen to arrive
		p.ack(at)
		await(t, "heard", func() bool { return one(t, s).Ack == at })
		clock.Advance(1)
	}
	x := s.p.Explain("", int64(off)+1)
	require.True(t, x.Estimate.Replay.Measured)
	require.InDelta(t, 3*mb, x.Estimate.Replay.Rate, 1)
	require.False(t, x.Estimate.RDB.Measured)
	p.conn.Close()
	await(t, "gone", func() bool { return s.p.Len() == 0 })

	p = play(t, s)
	require.Equal(t, "+OK", p.request("REPLCONF", "capa", "eof"))
	require.Contains(t, p.request("PSYNC", "?", "-1"), "+FULLRESYNC")
	mark, _ := strings.CutPrefix(p.line(), "$EOF:")
	var all strings.Builder
	for !strings.HasSuffix(all.String(), mark) {
		b, err := p.in.ReadByte()
		require.NoError(t, err)
		all.WriteByte(b)
	}
	clock.Advance(4) // it loads
	p.ack(f.log.Durable())
	await(t, "online", func() bool { return one(t, s).State == StateOnline })
	x = s.p.Explain("", int64(off)+1)
	require.True(t, x.Estimate.RDB.Measured)
	require.InDelta(t, 10*mb, x.Estimate.RDB.Rate, 1)
}
