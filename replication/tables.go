package replication

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// A full sync by tables, between two servers of this kind. A replica announces that it can (REPLCONF capa holdfast-tables);
// who does not gets RDB. Then, behind +FULLRESYNC:
//
//	primary  $TABLES:<length of the manifest> <its crc32c, 8 hex digits>\r\n<manifest, JSON>
//	replica  REPLCONF holdfast-have <file> <bytes> <crc32c of these bytes>   one for each file of which it has something
//	replica  REPLCONF holdfast-get
//	primary  +FILE <file> <offset> <bytes>\r\n<bytes><crc32c of these bytes, 8 hex digits>\r\n   for each file that lacks something
//	primary  +END\r\n
//	replica  REPLCONF ACK <C>, when it has taken the tables over; the stream from C follows
//
// Files are named by their place in the manifest. What the replica claims to have counts only if the primary's file begins with the
// same bytes: so it does not matter which attempt, or which run of the primary, they are from, nor whether they came whole.

const (
	// capaTables is how a replica says that it takes tables; tablesHead is how they begin.
	capaTables = "holdfast-tables"
	tablesHead = "$TABLES:"
	// tableBuf is what is read, summed and written at a time, on both sides.
	tableBuf = 256 << 10
	// maxManifest bounds what a replica reads before it knows anything about it; a file takes some 50 bytes.
	maxManifest = 64 << 20
	// tellEach is how often progress is logged.
	tellEach = 5 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// TableFile is one file of a snapshot store.
type TableFile struct {
	Name string // within the store's directory, which has no directories
	Size int64  // bytes
}

// Manifest says of what a snapshot consists that is sent as tables.
type Manifest struct {
	ID      string     // the replication id at C
	C       wal.Offset // S1
	Lineage []wal.LineageEntry
	Files   []TableFile
}

// Size returns the bytes of all files.
func (m *Manifest) Size() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// check refuses what must not become paths, or cannot be.
func (m *Manifest) check(id string, c wal.Offset) error {
	if m.ID != id || m.C != c {
		return fmt.Errorf("%w: the tables are of %s:%d, announced were %s:%d", errProtocol, printable(m.ID), m.C, id, c)
	}
	seen := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		if !tableName(f.Name) || seen[f.Name] || f.Size < 0 {
			return fmt.Errorf("%w: a table cannot be called %q and have %d bytes", errProtocol, printable(f.Name), f.Size)
		}
		seen[f.Name] = true
	}
	return nil
}

// tableName tells whether s can be the name of a file of a store, and nothing else.
func tableName(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 200 && strings.Trim(s, ".") != ""
}

// TableSource is a Source that can give a snapshot as tables. OpenTables is OpenSnapshot for that: Tables is set, Write need not
// be.
type TableSource interface {
	OpenTables(ctx context.Context) (*Snapshot, error)
}

// Tables are the files of a snapshot. They do not change until the Snapshot's Close.
type Tables struct {
	Lineage []wal.LineageEntry // up to C
	Files   []TableFile
	Open    func(name string) (TableReader, error)
	// Done is called when a replica has taken them over, before Close. Without it the replica will want the rest.
	Done func()
}

// TableReader is an open file of a snapshot.
type TableReader interface {
	io.ReaderAt
	io.Closer
}

// TableLoader is a Loader that can take over tables, instead of an RDB file.
type TableLoader interface {
	// BeginTables begins, or goes on where a link that was cut has ended. The Loader's Abort keeps what has come for the next
	// one.
	BeginTables(ctx context.Context, m *Manifest) (TableSink, error)
}

// TableSink is where tables go. Files are named by their place in the manifest. One goroutine uses it.
type TableSink interface {
	// Have calls tell for each file of which there is something: how many bytes, and their crc32c.
	Have(ctx context.Context, tell func(file int, size int64, crc uint32) error) error
	// Create begins a file anew, or goes on behind off bytes, all that there is of it. The caller closes it.
	Create(file int, off int64) (io.WriteCloser, error)
	// Finish is called when all files are complete, each checked by the sums it came with. It makes them durable; then the Loader
	// can Commit.
	Finish(ctx context.Context) error
}

// pacing spreads what full syncs send over time: one for all links.
type pacing struct {
	rate int64     // as of the last piece
	next time.Time // when the next piece may go
}

// paceShare: a piece is what may go in this part of a second, so that a change of the rate shows soon.
const paceShare = 10

// pace waits until some of n bytes of a full sync may be sent, and returns how many.
func (p *Primary) pace(ctx context.Context, n int) (int, error) {
	rate := p.conf.Load().SyncBytesPerSecond
	if rate <= 0 {
		return n, nil
	}
	n = int(min(int64(n), max(rate/paceShare, 1)))
	now := p.o.Clock.Now()
	p.mu.Lock()
	c := &p.mu.pacing
	if c.rate != rate || c.next.Before(now) {
		c.rate, c.next = rate, now
	}
	wait := c.next.Sub(now)
	c.next = c.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	p.mu.Unlock()
	if wait <= 0 {
		return n, nil
	}
	ticks, stop := p.o.Clock.NewTicker(wait)
	defer stop()
	select {
	case <-ticks:
		return n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// teller logs how far a transfer is.
type teller struct {
	clock       Clock
	log         func(string)
	what        string
	start, last time.Time
	first       int64 // bytes that were there at the start
}

func newTeller(clock Clock, log func(string), what string, have int64) *teller {
	now := clock.Now()
	return &teller{clock, log, what, now, now, have}
}

// tell logs if it is time to; total is 0 or less if nobody knows it: a snapshot that is streamed as it is made.
func (t *teller) tell(done, total int64) {
	now := t.clock.Now()
	if now.Sub(t.last) < tellEach {
		return
	}
	t.last = now
	if total <= 0 {
		t.log(fmt.Sprintf("%s: %d bytes, %.1f MB/s", t.what, done, float64(done-t.first)/1e6/now.Sub(t.start).Seconds()))
		return
	}
	left := "unknown"
	if moved := done - t.first; moved > 0 {
		left = time.Duration(float64(now.Sub(t.start)) * float64(total-done) / float64(moved)).Round(time.Second).String()
	}
	t.log(fmt.Sprintf("%s: %d of %d bytes (%d %%), about %s left", t.what, done, total, 100*done/max(total, 1), left))
}

func encodeManifest(s *Snapshot) ([]byte, error) {
	return json.Marshal(Manifest{ID: s.ID, C: s.C, Lineage: s.Tables.Lineage, Files: s.Tables.Files})
}
