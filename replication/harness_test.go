package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
	"github.com/stretchr/testify/require"
)

// patience bounds how long a test waits for what other goroutines do.
const patience = 30 * time.Second

// await waits for a condition that other goroutines bring about; poke, if given, is called between two looks.
func await(t testing.TB, what string, cond func() bool, poke ...func()) {
	t.Helper()
	for start := time.Now(); !cond(); {
		if time.Since(start) > patience {
			t.Fatalf("waited in vain: %s", what)
		}
		for _, p := range poke {
			p()
		}
		runtime.Gosched()
	}
}

// fakeClock stands still until it is advanced.
type fakeClock struct {
	mu      sync.Mutex
	now     time.Time
	tickers map[*fakeTicker]struct{}
}

type fakeTicker struct {
	c       chan time.Time
	stopped chan struct{}
	once    sync.Once
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Unix(1_700_000_000, 0), tickers: map[*fakeTicker]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	if d != cron {
		panic("all tickers tick each second")
	}
	t := &fakeTicker{c: make(chan time.Time), stopped: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tickers[t] = struct{}{}
	return t.c, func() {
		t.once.Do(func() { close(t.stopped) })
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.tickers, t)
	}
}

// running returns how many tickers there are.
func (c *fakeClock) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tickers)
}

// Advance lets n seconds pass, one by one. Each tick is in its receiver's hands when it returns, unless who should take it is
// busy elsewhere for good: a blocked writer misses its ticks as it would with a real ticker.
func (c *fakeClock) Advance(n int) {
	for range n {
		c.mu.Lock()
		c.now = c.now.Add(time.Second)
		now := c.now
		all := slices.Collect(maps.Keys(c.tickers))
		c.mu.Unlock()
		for _, t := range all {
			busy := time.NewTimer(patience / 10)
			select {
			case t.c <- now:
			case <-t.stopped:
			case <-busy.C:
			}
			busy.Stop()
		}
	}
}

// fake is an engine for SET only, over a real log.
type fake struct {
	t   testing.TB
	log *wal.Log

	mu       sync.Mutex
	data     map[string]string
	replica  bool
	adopted  []string
	applied  [][]byte // as it was handed over
	pins     int      // held
	views    int      // open
	aborts   int
	commits  int
	hold     chan struct{} // blocks OpenSnapshot until closed
	holdLoad chan struct{} // blocks Commit until closed or cancelled
	loading  chan struct{} // gets a value when Commit is reached
	filler   int           // bytes of one more key in snapshots
}

func newFake(t testing.TB, id string) *fake {
	l, err := wal.Open(wal.Options{FS: vfs.NewMem(), Dir: "wal", Policy: wal.Always, TailBytes: 64 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	require.NoError(t, l.BeginID(id))
	return &fake{t: t, log: l, data: map[string]string{}}
}

func (f *fake) Log() *wal.Log { return f.log }

func (f *fake) append(args ...string) wal.Offset {
	list := make([][]byte, len(args))
	for i, a := range args {
		list[i] = []byte(a)
	}
	end := f.log.Append(wal.AppendCommand(nil, list...), 0, 0)
	f.log.Kick()
	return end
}

func (f *fake) set(k, v string) wal.Offset {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data[k] = v
	return f.append("SET", k, v)
}

func (f *fake) sync() {
	require.NoError(f.t, f.log.Sync(context.Background()))
}

func (f *fake) AppendOwn(args ...[]byte) (wal.Offset, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.replica {
		return 0, false
	}
	end := f.log.Append(wal.AppendCommand(nil, args...), 0, 0)
	f.log.Kick()
	return end, true
}

func (f *fake) Position() (string, wal.Offset) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.log.Lineage()
	return l[len(l)-1].ID, f.log.End()
}

func (f *fake) OpenSnapshot(ctx context.Context) (*Snapshot, error) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.log.Sync(ctx); err != nil {
		return nil, err
	}
	data, filler := maps.Clone(f.data), f.filler
	f.pins++
	f.views++
	l := f.log.Lineage()
	return &Snapshot{
		ID: l[len(l)-1].ID, C: f.log.End(), Pin: &fakePin{f: f},
		Close: func() { f.mu.Lock(); f.views--; f.mu.Unlock() },
		Write: func(ctx context.Context, w io.Writer, noData bool) error {
			if noData {
				data = map[string]string{}
			}
			if filler > 0 && !noData {
				data["filler"] = strings.Repeat("x", filler)
			}
			return writeRDB(w, data)
		},
	}, nil
}

func writeRDB(w io.Writer, data map[string]string) error {
	rw := rdb.NewFileWriter(w)
	if err := rw.Aux("redis-ver", "7.0.15"); err != nil {
		return err
	}
	if err := rw.Aux("repl-stream-db", "0"); err != nil {
		return err
	}
	if len(data) > 0 {
		if err := rw.SelectDB(0); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		if err := rw.Key([]byte(k), -1, rdb.AppendStringValue(nil, []byte(data[k]))); err != nil {
			return err
		}
	}
	return rw.Close()
}

type fakePin struct {
	f    *fake
	once sync.Once
}

func (p *fakePin) Move(wal.Offset) {}
func (p *fakePin) Release()        { p.once.Do(func() { p.f.mu.Lock(); p.f.pins--; p.f.mu.Unlock() }) }

var errHalf = errors.New("half a record was handed over")

func (f *fake) ApplyStream(ctx context.Context, data []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = append(f.applied, bytes.Clone(data))
	multi, done := false, 0
	for at := 0; at < len(data); {
		args, n, err := wal.ReadRecord(data[at:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, errHalf
		}
		at += n
		switch string(args[0]) {
		case "SET":
			f.data[string(args[1])] = string(args[2])
		case "XADD":
			return 0, &ForeignError{errors.New("unknown command XADD")}
		case "MULTI":
			multi = true
		case "EXEC":
			multi = false
		}
		if !multi {
			done = at
		}
	}
	if done != len(data) {
		return 0, errHalf
	}
	f.log.Append(data, 0, 0)
	f.log.Kick()
	return len(data), nil
}

func (f *fake) AdoptID(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.adopted = append(f.adopted, id)
	return f.log.BeginID(id)
}

func (f *fake) BeginLoad(context.Context) (Loader, error) {
	return &fakeLoader{f: f, data: map[string]string{}}, nil
}

type fakeLoader struct {
	f    *fake
	data map[string]string
}

func (l *fakeLoader) RDB(_ context.Context, r io.Reader) error {
	fr, err := rdb.NewFileReader(r)
	if err != nil {
		return err
	}
	for {
		e, err := fr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Aux != nil || e.Function != nil {
			continue
		}
		var v stringSink
		if _, err := rdb.DecodeValue(e.Type, e.Value, &v); err != nil {
			return err
		}
		if v.s == "foreign" {
			return &ForeignError{errors.New("a foreign type")}
		}
		l.data[string(e.Key)] = v.s
	}
}

// stringSink takes strings and no other values.
type stringSink struct {
	rdb.Sink
	s string
}

func (s *stringSink) String(v []byte) error { s.s = string(v); return nil }

func (l *fakeLoader) Lineage() []wal.LineageEntry { return nil }

func (l *fakeLoader) Commit(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error {
	l.f.mu.Lock()
	hold, loading := l.f.holdLoad, l.f.loading
	l.f.mu.Unlock()
	if loading != nil {
		loading <- struct{}{}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if err := l.f.log.Reset(off, lineage); err != nil {
		return err
	}
	l.f.data = l.data
	l.f.commits++
	return nil
}

func (l *fakeLoader) Abort() error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.f.aborts++
	return nil
}

func (f *fake) snapshotOf() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.data)
}

func (f *fake) held() (pins, views int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pins, f.views
}

// bytesOf reads the log from off to its end.
func (f *fake) bytesOf(from wal.Offset) []byte {
	f.sync()
	end := f.log.End()
	r, err := f.log.NewReader(from)
	require.NoError(f.t, err)
	defer r.Close()
	var all []byte
	for r.Offset() < end {
		_, data, err := r.Next(context.Background())
		require.NoError(f.t, err)
		all = append(all, data...)
	}
	return all
}

// peer serves connections as a server does around a Primary.
type peer struct {
	t testing.TB
	p *Primary
	f *fake

	mu       sync.Mutex
	wg       sync.WaitGroup
	standing func() Standing
	promote  func()
	password string
	asked    []string // PSYNC and SYNC requests seen
}

func newPeer(t testing.TB, f *fake, clock Clock, c PrimaryConfig) *peer {
	return newPeerWith(t, f, clock, c, nil)
}

// newPeerWith is newPeer with options changed.
func newPeerWith(t testing.TB, f *fake, clock Clock, c PrimaryConfig, change func(*PrimaryOptions)) *peer {
	s := &peer{t: t, f: f}
	n := 0
	var mu sync.Mutex
	o := PrimaryOptions{
		Source: f, NewSpool: NewFileSpool(t.TempDir()), Clock: clock, Config: c,
		Rand: func() string { mu.Lock(); defer mu.Unlock(); n++; return fmt.Sprintf("%040x", n) },
	}
	if change != nil {
		change(&o)
	}
	s.p = NewPrimary(o)
	t.Cleanup(func() { s.p.Close(); s.wg.Wait() })
	return s
}

// serve runs a session on conn.
func (s *peer) serve(conn net.Conn) { s.wg.Go(func() { s.session(conn) }) }

func (s *peer) session(conn net.Conn) {
	var q Request
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		args, n, inline := next(buf)
		if n == 0 {
			m, err := conn.Read(chunk)
			if err != nil {
				_ = conn.Close()
				return
			}
			buf = append(buf, chunk[:m]...)
			continue
		}
		buf = buf[n:]
		_ = inline
		reply := ""
		switch cmd := strings.ToLower(string(args[0])); cmd {
		case "ping":
			reply = "+PONG"
		case "auth":
			reply = "+OK"
		case "replconf":
			text, ok := q.Replconf(args[1:])
			if reply = "+" + text; !ok {
				reply = "-" + text
			}
		case "psync", "sync":
			if cmd == "sync" {
				q.Sync()
			} else if text := q.Psync(args[1:]); text != "" {
				reply = "-" + text
				break
			}
			s.mu.Lock()
			s.asked = append(s.asked, string(bytes.Join(args, []byte(" "))))
			standing, promote := s.standing, s.promote
			s.mu.Unlock()
			if standing != nil {
				must, refuse := q.Admit(standing())
				if refuse != "" {
					reply = "-" + refuse
					break
				}
				if must {
					promote()
				}
			}
			s.p.Serve(conn, buf, q)
			return
		default:
			reply = "-ERR unknown command"
		}
		if _, err := conn.Write([]byte(reply + "\r\n")); err != nil {
			_ = conn.Close()
			return
		}
	}
}

func next(buf []byte) (args [][]byte, n int, inline bool) {
	if len(buf) > 0 && buf[0] != '*' {
		if n = bytes.IndexByte(buf, '\n') + 1; n > 0 {
			return bytes.Fields(buf[:n]), n, true
		}
		return nil, 0, true
	}
	args, n, _ = wal.ReadRecord(buf)
	return args, n, false
}

func (s *peer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// dial returns a dialer to s, whose connections wrap is given; nil leaves them.
func (s *peer) dial(wrap func(n int, c net.Conn) net.Conn) func(context.Context, string) (net.Conn, error) {
	n := 0
	return func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		s.serve(theirs)
		if wrap != nil {
			ours = wrap(n, ours)
		}
		n++
		return ours, nil
	}
}

// cutConn is closed after some bytes were read from it, or written to it.
type cutConn struct {
	net.Conn
	mu      sync.Mutex
	in, out int // still to pass; negative: no limit
}

func (c *cutConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	in := c.in
	c.mu.Unlock()
	if in == 0 {
		_ = c.Close()
		return 0, io.EOF
	}
	if in > 0 {
		b = b[:min(len(b), in)]
	}
	n, err := c.Conn.Read(b)
	if in > 0 {
		c.mu.Lock()
		c.in -= n
		c.mu.Unlock()
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	out := c.out
	c.mu.Unlock()
	if out < 0 {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:min(len(b), out)])
	c.mu.Lock()
	c.out -= n
	c.mu.Unlock()
	if err == nil && n < len(b) {
		_ = c.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

// id makes a replication id.
func id(c byte) string { return strings.Repeat(string(c), 40) }

func sorted(m map[string]string) []string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return out
}
