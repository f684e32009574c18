package replication

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/wal"
)

// tableFake is a fake whose snapshots are files: its data as JSON, in pieces. What came of the files of a sync stays.
type tableFake struct {
	*fake
	partial map[string][]byte // f.mu
	written int               // bytes that came, f.mu
	done    int               // f.mu
}

// piece is the size of the files, so that there are several, and the last one is short.
const piece = 32

func filesOf(data map[string]string) (names []string, files map[string][]byte) {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	files = map[string][]byte{}
	for i := 0; len(text) > 0; i++ {
		n := min(piece, len(text))
		names = append(names, fmt.Sprintf("%06d.sst", i))
		files[names[i]], text = text[:n], text[n:]
	}
	files["EMPTY"] = nil
	return append(names, "EMPTY"), files
}

func (f *tableFake) OpenTables(ctx context.Context) (*Snapshot, error) {
	s, err := f.OpenSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	names, files := filesOf(f.snapshotOf())
	s.Write = nil
	s.Tables = &Tables{
		Lineage: f.log.Lineage(),
		Open: func(name string) (TableReader, error) {
			b, ok := files[name]
			if !ok {
				return nil, errors.New("no such file")
			}
			return nopCloserAt{bytes.NewReader(b)}, nil
		},
		Done: func() { f.mu.Lock(); f.done++; f.mu.Unlock() },
	}
	for _, n := range names {
		s.Tables.Files = append(s.Tables.Files, TableFile{n, int64(len(files[n]))})
	}
	return s, nil
}

type nopCloserAt struct{ io.ReaderAt }

func (nopCloserAt) Close() error { return nil }

func (f *tableFake) BeginLoad(ctx context.Context) (Loader, error) {
	l, err := f.fake.BeginLoad(ctx)
	return &tableLoader{fakeLoader: l.(*fakeLoader), f: f}, err
}

type tableLoader struct {
	*fakeLoader
	f *tableFake
	m *Manifest
}

func (l *tableLoader) Lineage() []wal.LineageEntry {
	if l.m == nil {
		return nil
	}
	return l.m.Lineage
}

func (l *tableLoader) BeginTables(_ context.Context, m *Manifest) (TableSink, error) {
	l.m = m
	return l, nil
}

func (l *tableLoader) Have(_ context.Context, tell func(int, int64, uint32) error) error {
	for i, f := range l.m.Files {
		if b, ok := l.f.partial[f.Name]; ok && int64(len(b)) <= f.Size {
			if err := tell(i, int64(len(b)), crc32.Checksum(b, castagnoli)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *tableLoader) Create(i int, off int64) (io.WriteCloser, error) {
	name := l.m.Files[i].Name
	if l.f.partial == nil {
		l.f.partial = map[string][]byte{}
	}
	if off == 0 {
		l.f.partial[name] = nil
	}
	if int64(len(l.f.partial[name])) != off {
		return nil, fmt.Errorf("%s has %d bytes, not %d", name, len(l.f.partial[name]), off)
	}
	return &tableWriter{l.f, name}, nil
}

type tableWriter struct {
	f    *tableFake
	name string
}

func (w *tableWriter) Write(b []byte) (int, error) {
	w.f.partial[w.name] = append(w.f.partial[w.name], b...)
	w.f.written += len(b)
	return len(b), nil
}

func (*tableWriter) Close() error { return nil }

func (l *tableLoader) Finish(context.Context) error {
	var text []byte
	for _, f := range l.m.Files {
		text = append(text, l.f.partial[f.Name]...)
	}
	l.f.partial = nil
	return json.Unmarshal(text, &l.data)
}

// newTablePair is newPair between two tableFakes.
func newTablePair(t testing.TB, c PrimaryConfig, wrap func(n int, c net.Conn) net.Conn) (p *pair, up, down *tableFake) {
	p = &pair{t: t, up: newFake(t, id('a')), down: newFake(t, id('0')), clock: newFakeClock()}
	up, down = &tableFake{fake: p.up}, &tableFake{fake: p.down}
	c.Timeout, c.PingPeriod = never, never
	p.peer = newPeerWith(t, p.up, p.clock, c, func(o *PrimaryOptions) { o.Source = up })
	p.down.replica = true
	p.r = NewReplica(ReplicaOptions{Sink: down, Clock: p.clock, Dial: p.peer.dial(wrap), Tables: true,
		Config: ReplicaConfig{Port: 6380, Timeout: never}})
	t.Cleanup(p.r.Stop)
	return p, up, down
}

func (f *tableFake) size() (n int) {
	_, files := filesOf(f.snapshotOf())
	for _, b := range files {
		n += len(b)
	}
	return n
}

// A full sync by tables that is cut after any byte, in either direction, goes on where it was: no byte of a table is sent twice.
func TestTablesCutAtEveryByte(t *testing.T) {
	for _, outward := range []bool{false, true} {
		t.Run(fmt.Sprintf("from=%s", map[bool]string{true: "replica", false: "primary"}[outward]), func(t *testing.T) {
			for cut, done := 0, false; !done; cut++ {
				if testing.Short() && cut%7 != 0 {
					continue
				}
				t.Run(fmt.Sprint(cut), func(t *testing.T) {
					var first *cutConn
					p, up, down := newTablePair(t, PrimaryConfig{}, func(n int, c net.Conn) net.Conn {
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
					size := up.size()
					p.start()
					await(t, "the first link is up, or gone", func() bool {
						st := p.r.Status()
						return st.State == Connected || st.Err != nil
					})
					p.same()
					p.history(10)
					p.same()
					require.EqualValues(t, 1, p.r.Status().FullSyncs)
					require.Equal(t, 1, p.down.commits)
					require.Equal(t, size, down.written, "bytes of tables that came")
					first.mu.Lock()
					done = first.in > 0 || first.out > 0 // the cut lies beyond the end
					first.mu.Unlock()
					p.r.Stop()
					p.peer.p.Close()
					pins, views := p.up.held()
					require.Zero(t, pins)
					require.Zero(t, views)
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}

// flipConn damages one byte of what is read from it.
type flipConn struct {
	net.Conn
	left int // bytes before it
}

func (c *flipConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left >= 0 && c.left < n {
		b[c.left] ^= 0x10
	}
	c.left -= n
	return n, err
}

// A byte damaged anywhere in the manifest, the frames or the tables is noticed before anything is replaced, and the next link
// brings what is right.
func TestTablesDamaged(t *testing.T) {
	// What a link reads before the tables, and all that it reads until it is up.
	var head, all int
	{
		var counted *countConn
		p, _, _ := newTablePair(t, PrimaryConfig{}, func(_ int, c net.Conn) net.Conn {
			counted = &countConn{Conn: c}
			return counted
		})
		p.history(0)
		p.start()
		p.same()
		head, all = bytes.Index(counted.got.Bytes(), []byte(tablesHead)), counted.got.Len()
		require.Positive(t, head)
	}
	for at := head; at < all; at++ {
		if testing.Short() && at%5 != 0 {
			continue
		}
		p, up, down := newTablePair(t, PrimaryConfig{}, func(n int, c net.Conn) net.Conn {
			if n > 0 {
				return c
			}
			return &flipConn{Conn: c, left: at}
		})
		p.history(0)
		p.start()
		begun := time.Now()
		await(t, "the first link is up, or gone", func() bool {
			if time.Since(begun) > 50*time.Millisecond {
				p.peer.p.Disconnect() // in place of repl-timeout: it waits for the end of a line, or for more bytes than there are
			}
			st := p.r.Status()
			return st.State == Connected || st.Err != nil
		})
		if p.r.Status().State == Connected && at > head+len(tablesHead) {
			// Frames have bytes that mean nothing: the case of a hexadecimal digit, and the carriage return.
			require.Equal(t, sorted(p.up.snapshotOf()), sorted(p.down.snapshotOf()), "byte %d", at)
		}
		p.same()
		require.Equal(t, 1, p.down.commits, "byte %d", at)
		require.LessOrEqual(t, down.written, 2*up.size(), "byte %d", at)
		p.r.Stop()
		p.peer.p.Close()
	}
}

// countConn keeps what was read from it.
type countConn struct {
	net.Conn
	got bytes.Buffer
}

func (c *countConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got.Write(b[:n])
	return n, err
}

// What was left by another history, or is damaged on the replica's disk, counts only as far as it is the same.
func TestTablesHave(t *testing.T) {
	p, up, down := newTablePair(t, PrimaryConfig{}, nil)
	p.history(0)
	names, files := filesOf(p.up.snapshotOf())
	require.GreaterOrEqual(t, len(names), 4)
	down.partial = map[string][]byte{
		names[0]: files[names[0]],                                   // whole
		names[1]: files[names[1]][:10],                              // begun
		names[2]: []byte("something else"),                          // begun, of another file
		"gone":   []byte("of a file that is not wanted any more"),   // not in the manifest
		"EMPTY":  {},                                                // whole, without a byte
		names[3]: append(bytes.Clone(files[names[3]]), "longer"...), // longer than it may be: not claimed
	}
	p.start()
	p.same()
	require.Equal(t, up.size()-len(files[names[0]])-10, down.written)
	await(t, "the primary has heard that the files are there", func() bool {
		up.mu.Lock()
		defer up.mu.Unlock()
		return up.done == 1
	})
	info := p.r.Status()
	require.EqualValues(t, up.size(), info.SyncTotal)
	require.EqualValues(t, up.size(), info.SyncRead)
}

// A replica that does not say that it takes tables gets RDB, and so does one that wants the snapshot only.
func TestTablesOnlyForWhoAsks(t *testing.T) {
	f := &tableFake{fake: newFake(t, id('a'))}
	f.set("k", "v")
	s := newPeerWith(t, f.fake, newFakeClock(), PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) { o.Source = f })
	for name, c := range map[string]struct {
		conf [][]string
		head string
	}{
		"tables":                   {[][]string{{"capa", "eof", "capa", capaTables}}, tablesHead},
		"a Redis":                  {[][]string{{"capa", "eof", "capa", "psync2"}}, "$EOF:"},
		"the snapshot only":        {[][]string{{"capa", "eof", "capa", capaTables}, {"rdb-only", "1"}}, "$EOF:"},
		"no keys of the snapshot":  {[][]string{{"capa", "eof", "capa", capaTables}, {"rdb-filter-only", "functions"}}, "$EOF:"},
		"tables without more capa": {[][]string{{"capa", capaTables}}, tablesHead},
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t, s)
			for _, args := range c.conf {
				require.Equal(t, "+OK", p.request(append([]string{"REPLCONF"}, args...)...))
			}
			require.Contains(t, p.request("PSYNC", "?", "-1"), "+FULLRESYNC ")
			require.Contains(t, p.line(), c.head)
		})
	}
}

// What a replica says of tables is not believed beyond what was offered.
func TestTablesRequestsRefused(t *testing.T) {
	for name, sends := range map[string][]string{
		"no such file":  {cmd("REPLCONF", "holdfast-have", "99", "1", "0")},
		"no number":     {cmd("REPLCONF", "holdfast-have", "x", "1", "0")},
		"negative file": {cmd("REPLCONF", "holdfast-have", "-1", "1", "0")},
		"negative size": {cmd("REPLCONF", "holdfast-have", "0", "-1", "0")},
		"a short one":   {cmd("REPLCONF", "holdfast-have", "0", "1")},
		"twice":         {cmd("REPLCONF", "holdfast-get"), cmd("REPLCONF", "holdfast-get")},
	} {
		t.Run(name, func(t *testing.T) {
			f := &tableFake{fake: newFake(t, id('a'))}
			f.set("k", "v")
			s := newPeerWith(t, f.fake, newFakeClock(), PrimaryConfig{Timeout: never, PingPeriod: never}, func(o *PrimaryOptions) { o.Source = f })
			p := play(t, s)
			require.Equal(t, "+OK", p.request("REPLCONF", "capa", capaTables))
			require.Contains(t, p.request("PSYNC", "?", "-1"), "+FULLRESYNC ")
			require.Contains(t, p.line(), tablesHead)
			drain(p.conn)
			for _, b := range sends {
				if _, err := io.WriteString(p.conn, b); err != nil {
					break // it has gone already
				}
			}
			await(t, "the link has ended", func() bool { return s.p.Len() == 0 })
			pins, views := f.held()
			require.Zero(t, pins)
			require.Zero(t, views)
		})
	}
	t.Run("none were offered", func(t *testing.T) {
		f := newFake(t, id('a'))
		s := newPeer(t, f, newFakeClock(), PrimaryConfig{Timeout: never, PingPeriod: never})
		p := play(t, s).follow(id('a'), 0)
		p.send(cmd("REPLCONF", "holdfast-get"))
		await(t, "the link has ended", func() bool { return s.p.Len() == 0 })
	})
}

// What a primary sends of tables is not believed: no path leaves the directory, no memory is taken for what is only announced.
func TestTablesOffersRefused(t *testing.T) {
	const capas = "*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$15\r\nholdfast-tables\r\n"
	offer := func(m Manifest) string {
		b, err := json.Marshal(m)
		require.NoError(t, err)
		return fmt.Sprintf("%s%d %08x\r\n%s", tablesHead, len(b), crc32.Checksum(b, castagnoli), b)
	}
	lineage := []wal.LineageEntry{{ID: id('a'), Start: 0, End: -1}}
	with := func(files ...TableFile) string {
		return offer(Manifest{ID: id('a'), C: 1000, Lineage: lineage, Files: files})
	}
	for name, c := range map[string]struct{ send, want string }{
		"no length":        {tablesHead + "\r\n", "announced as"},
		"huge":             {tablesHead + "99999999999 00000000\r\n", "announced as"},
		"negative":         {tablesHead + "-1 00000000\r\n", "announced as"},
		"no JSON":          {fmt.Sprintf("%s1 %08x\r\n{", tablesHead, crc32.Checksum([]byte("{"), castagnoli)), "list of tables"},
		"damaged":          {tablesHead + "2 00000000\r\n{}", "damaged"},
		"of another C":     {offer(Manifest{ID: id('a'), C: 1001, Lineage: lineage}), "announced were"},
		"a path":           {with(TableFile{"../x", 1}), "cannot be called"},
		"a directory":      {with(TableFile{"..", 1}), "cannot be called"},
		"no name":          {with(TableFile{"", 1}), "cannot be called"},
		"a name twice":     {with(TableFile{"a", 1}, TableFile{"a", 1}), "cannot be called"},
		"a negative size":  {with(TableFile{"a", -1}), "cannot be called"},
		"no such frame":    {with(TableFile{"a", 1}) + "+FILE 1 0 1\r\n", "among the tables"},
		"not a frame":      {with(TableFile{"a", 1}) + "+FILE\r\n", "among the tables"},
		"beyond its end":   {with(TableFile{"a", 1}) + "+FILE 0 0 2\r\n", "among the tables"},
		"behind its place": {with(TableFile{"a", 2}) + "+FILE 0 1 1\r\n", "among the tables"},
		"an early end":     {with(TableFile{"a", 1}) + "+END\r\n", "0 bytes of 1 at the end"},
		"a wrong sum":      {with(TableFile{"a", 1}) + "+FILE 0 0 1\r\nx00000000\r\n", "damaged"},
		"an error":         {"-ERR no\r\n", "MASTER aborted"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, ReplicaConfig{Port: 6380})
			tf := &tableFake{fake: g.f}
			g.Replica.o.Sink, g.Replica.o.Tables = tf, true
			g.Start(Target{Host: "h", Port: 1})
			s := g.accept()
			s.expect(cmd("PING"))
			s.send("+PONG\r\n")
			s.expect(listening, capas)
			s.send("+OK\r\n+OK\r\n")
			s.expect(cmd("PSYNC", "?", "-1"))
			drain(s.conn)
			_, err := io.WriteString(s.conn, "+FULLRESYNC "+id('a')+" 1000\r\n"+c.send)
			if err != nil {
				require.ErrorIs(t, err, io.ErrClosedPipe) // refused before all of it was read
			}
			g.failed(c.want)
			require.Zero(t, g.f.commits)
		})
	}
}

// stepClock is a clock for which a ticker's time has come at once.
type stepClock struct {
	fakeClock
	passed time.Duration
}

func (c *stepClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	c.now = c.now.Add(d)
	c.passed += d
	ticks := make(chan time.Time, 1)
	ticks <- c.now
	return ticks, func() {}
}

// Full syncs send no faster than they may, whatever sizes they write in, and a change of the rate counts from the next piece on.
func TestPace(t *testing.T) {
	clock := &stepClock{}
	p := &Primary{o: PrimaryOptions{Clock: clock}}
	ctx := context.Background()
	send := func(total int) {
		for sent := 0; sent < total; {
			n, err := p.pace(ctx, min(total-sent, 256<<10))
			require.NoError(t, err)
			require.Positive(t, n)
			sent += n
		}
	}
	p.SetConfig(PrimaryConfig{})
	send(1 << 20)
	require.Zero(t, clock.passed, "no bound")
	p.SetConfig(PrimaryConfig{SyncBytesPerSecond: 100_000})
	send(1_000_000)
	require.InDelta(t, 10, clock.passed.Seconds(), 0.2)
	p.SetConfig(PrimaryConfig{SyncBytesPerSecond: 1_000_000})
	clock.passed = 0
	send(5_000_000)
	require.InDelta(t, 5, clock.passed.Seconds(), 0.2)
	p.SetConfig(PrimaryConfig{SyncBytesPerSecond: 3})
	clock.passed = 0
	send(9)
	require.InDelta(t, 3, clock.passed.Seconds(), 0.5)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.EOF)
	p.SetConfig(PrimaryConfig{SyncBytesPerSecond: 1})
	p.o.Clock = newFakeClock()
	_, err := p.pace(ctx, 1)
	require.NoError(t, err)
}

func TestTeller(t *testing.T) {
	clock := newFakeClock()
	var lines []string
	n := newTeller(clock, func(s string) { lines = append(lines, s) }, "sync", 100)
	n.tell(150, 1000)
	require.Empty(t, lines, "not yet")
	clock.now = clock.now.Add(10 * time.Second)
	n.tell(200, 1000)
	n.tell(300, 1000)
	require.Equal(t, []string{"sync: 200 of 1000 bytes (20 %), about 1m20s left"}, lines)
	clock.now = clock.now.Add(10 * time.Second)
	n.tell(100, 1000)
	require.True(t, strings.HasSuffix(lines[1], "about unknown left"), lines[1])
	clock.now = clock.now.Add(20 * time.Second)
	n.tell(8_000_100, 0)
	require.Equal(t, "sync: 8000100 bytes, 0.2 MB/s", lines[2])
}

// The primary, too, tells how far a snapshot is: each few seconds, as long as something moves.
func TestPrimaryTellsProgress(t *testing.T) {
	clock := newFakeClock()
	var out strings.Builder
	p := &Primary{o: PrimaryOptions{Clock: clock}, log: hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true})}
	p.SetConfig(PrimaryConfig{Timeout: never, PingPeriod: never})
	l := &link{p: p, addr: "10.0.0.1:6379", state: StateBulk}
	l.had.Store(1000)
	l.total.Store(11000)
	idle := &link{p: p, addr: "10.0.0.2:6379", state: StateOnline}
	for _, l := range []*link{l, idle} {
		l.read.Store(clock.now.UnixNano())
	}
	p.mu.links = []*link{l, idle}
	p.mu.lastPing = clock.now
	for range 12 {
		p.tick()
		clock.now = clock.now.Add(time.Second)
		l.snapshot.Add(500)
	}
	require.Equal(t, "[INFO]  Sending the snapshot to replica 10.0.0.1:6379: 3500 of 11000 bytes (31 %), about 15s left\n"+
		"[INFO]  Sending the snapshot to replica 10.0.0.1:6379: 6000 of 11000 bytes (54 %), about 10s left\n", out.String())
	for range 20 { // it does not read
		clock.now = clock.now.Add(time.Second)
		p.tick()
	}
	require.Equal(t, 3, strings.Count(out.String(), "\n"), out.String())
}

// A replica tells of an RDB file as of tables.
func TestReplicaTellsProgressOfRDB(t *testing.T) {
	clock := newFakeClock()
	var lines []string
	r := &countingReader{src: strings.NewReader(strings.Repeat("x", 1000)), u: &upstream{}, teller: newTeller(clock, func(s string) { lines = append(lines, s) }, "sync", 0)}
	r.u.syncTotal.Store(1000)
	buf := make([]byte, 100)
	for range 10 {
		clock.now = clock.now.Add(time.Second)
		_, err := r.Read(buf)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"sync: 500 of 1000 bytes (50 %), about 5s left", "sync: 1000 of 1000 bytes (100 %), about 0s left"}, lines)
}

// The files of different data have bytes in common, so that the tests of what a replica has mean something.
func TestFilesOf(t *testing.T) {
	data := map[string]string{"a": strings.Repeat("x", 100)}
	names, files := filesOf(data)
	var all []byte
	for _, n := range names {
		all = append(all, files[n]...)
	}
	back := map[string]string{}
	require.NoError(t, json.Unmarshal(all, &back))
	require.True(t, maps.Equal(data, back))
}
