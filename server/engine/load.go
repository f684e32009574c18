package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

// Taking over a data set. What arrives goes into a store of its own beside the one that is served; only when it is complete
// and verified does Commit replace data and log by it (switch.go). Until then nothing of the old is touched.

// ErrLoading says that a load is under way already, ErrLoaded that this one has ended.
var (
	ErrLoading = errors.New("engine: a load is under way")
	ErrLoaded  = errors.New("engine: the load has ended")
)

// ErrForeignData says that a file holds what this program does not have; nothing has been replaced.
var ErrForeignData = errors.New("data that cannot be taken over")

// Loader takes over a data set. One goroutine uses it, but Progress is for any; Commit or Abort is its last call.
type Loader struct {
	e      *Engine
	dir    string
	store  *snapshot.Store // nil until there is one
	rdb    bool            // the store is what RDB has made
	layout layout
	oid    uint64
	runs   int
	names  *keySet // of what RDB has read
	aux    struct {
		db      int
		lineage []wal.LineageEntry
		id      string
		offset  int64
	}
	tables *tableSink // what takes tables as they are; nil: nothing has begun to
	whole  bool       // all tables are in dir, checked as they came
	ended  bool
	began  time.Time
	bytes  atomic.Int64
	keys   atomic.Int64
}

// newStoreName is the directory of a load under way.
const newStoreName = "snapshot.new"

// BeginLoad starts to take over a data set, in a store beside the one that is served. There is one load at a time: ErrLoading.
func (e *Engine) BeginLoad(ctx context.Context) (*Loader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !e.loading.CompareAndSwap(false, true) {
		return nil, ErrLoading
	}
	l := &Loader{e: e, dir: e.path(newStoreName), oid: 1, began: e.now(), layout: layout{dbs: map[int]*snapshot.DBMeta{}}}
	if err := e.disk.fs.RemoveAll(l.dir); err != nil {
		e.loading.Store(false)
		return nil, fmt.Errorf("load: %w", err)
	}
	return l, nil
}

// Progress tells how many bytes of a file were read, and how many keys. Any goroutine may ask.
func (l *Loader) Progress() (bytes, keys int64) { return l.bytes.Load(), l.keys.Load() }

// Lineage returns what the file tells of the ids that the history had up to its offset, oldest first; nil if it says
// nothing.
func (l *Loader) Lineage() []wal.LineageEntry { return l.aux.lineage }

// SelectedDB returns the database selected in the stream where the file's data end.
func (l *Loader) SelectedDB() int { return l.aux.db }

// Origin returns the id and offset of the file's data as far as it names them, "" and -1 if not.
func (l *Loader) Origin() (id string, offset int64) {
	if l.aux.id == "" {
		return "", -1
	}
	return l.aux.id, l.aux.offset
}

type progressReader struct {
	r io.Reader
	n *atomic.Int64
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n.Add(int64(n))
	return n, err
}

// loadLook is after how many keys a load asks whether it is still wanted.
const loadLook = 256

// RDB reads an RDB file, its checksum included, from r, which ends where the file does. ErrForeignData: the file holds a type
// of value that this program does not have, or a database that it has not. After an error only Abort is left.
func (l *Loader) RDB(ctx context.Context, r io.Reader) (err error) {
	if l.ended || l.store != nil {
		return ErrLoaded
	}
	o := l.e.storeOptions(l.dir)
	o.CacheBytes = min(o.CacheBytes, loadCacheBytes) // nothing is read but by merges
	o.Overlap = loadOverlap
	if l.store, err = snapshot.Open(o); err != nil {
		return err
	}
	l.rdb = true
	l.store.SetCompactions(loadCompactions)
	w := startRunWriter(ctx, l.store)
	err = l.read(ctx, w, r)
	l.runs, l.names = w.runs, &w.keys
	if werr := w.end(); werr != nil {
		return fmt.Errorf("rdb: %w", werr) // err follows from it
	}
	if err != nil {
		return fmt.Errorf("rdb: %w", err)
	}
	return nil
}

const loadCacheBytes = 8 << 20

// loadOverlap is how many runs lie upon each other before they are merged while a load goes on: 1 GiB. To merge at every fourth, as
// checkpoints are, would write a load of 400 MB three and a half times over, and take a quarter of its processor time, where somebody
// waits for its end. What is left to merge then waits for the first checkpoint; a read asks a filter of each run until then.
const loadOverlap = 32

// loadCompactions is how many merges may run at once while a load piles tables up.
const loadCompactions = 2

var errRunWriter = errors.New("rows could not be written")

func (l *Loader) read(ctx context.Context, w *runWriter, r io.Reader) error {
	f, err := rdb.NewFileReader(progressReader{r, &l.bytes})
	if err != nil {
		return err
	}
	cur, ok := w.swap(nil)
	if !ok {
		return errRunWriter
	}
	enc := &keyspace.RowEncoder{Limits: l.e.opts.Limits, NextOID: l.oid}
	enc.Put = func(key, val []byte) {
		if cur == nil {
			return
		}
		cur.put(key, val)
		if cur.full() {
			cur, _ = w.swap(cur)
		}
	}
	value := &command.ValueBuilder{Limits: l.e.opts.Limits}
	for n := 1; ; n++ {
		if n%loadLook == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		entry, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.entry(enc, value, &entry)
		}
		if err != nil {
			var foreign *rdb.ErrUnsupportedType
			if errors.As(err, &foreign) {
				err = fmt.Errorf("%w: %w", ErrForeignData, err)
			}
			return err
		}
		if cur == nil {
			return errRunWriter
		}
	}
	if rest := f.Buffered(); len(rest) > 0 {
		return fmt.Errorf("%d bytes behind the end of the file", len(rest))
	}
	l.oid = enc.NextOID
	if len(cur.rows) > 0 {
		if _, ok := w.swap(cur); !ok {
			return errRunWriter
		}
	}
	return nil
}

// entry takes one entry of a file.
func (l *Loader) entry(enc *keyspace.RowEncoder, value *command.ValueBuilder, e *rdb.Entry) error {
	switch {
	case e.Aux != nil:
		return l.auxField(string(e.Aux), e.Value)
	case e.Function != nil:
		return fmt.Errorf("%w: a function library", ErrForeignData)
	case e.DB >= l.e.opts.Databases:
		return fmt.Errorf("%w: keys in database %d, there are %d: raise the number of databases", ErrForeignData, e.DB, l.e.opts.Databases)
	}
	// The file's checksum protects it, and what a value has twice goes into it once, so duplicates need no search.
	rest, err := rdb.DecodeTrusted(e.Type, e.Value, value)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind a value", rdb.ErrCorrupt, len(rest))
	}
	d := l.layout.db(e.DB)
	d.Keys++
	at := int64(0)
	if e.ExpireMs >= 0 {
		// A key that has expired long ago is a key until its primary deletes it; 0 means none with us.
		at = max(e.ExpireMs, 1)
		d.Expires++
	}
	if h, ok := value.Collection.(*keyspace.Hash); ok && h.Timed() > 0 {
		d.Timed++
	}
	if value.Collection == nil {
		enc.String(d.Phys, e.Key, value.Str, at)
	} else {
		enc.Collection(d.Phys, e.Key, value.Collection, at)
	}
	l.keys.Add(1)
	return nil
}

// LineageAux is the auxiliary field of an RDB file of ours that tells the lineage, as JSON.
const LineageAux = "holdfast-lineage"

func (l *Loader) auxField(name string, text []byte) error {
	var err error
	switch name {
	case "repl-stream-db":
		var db int
		if db, err = strconv.Atoi(string(text)); err == nil && db >= l.e.opts.Databases {
			return fmt.Errorf("%w: the stream has database %d selected, there are %d: raise the number of databases", ErrForeignData, db, l.e.opts.Databases)
		}
		l.aux.db = max(db, 0)
	case "repl-id":
		l.aux.id = string(text)
	case "repl-offset":
		l.aux.offset, err = strconv.ParseInt(string(text), 10, 64)
	case LineageAux:
		err = json.Unmarshal(text, &l.aux.lineage)
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	return nil
}

// Abort drops what was read. The data are what they were. After Commit it does nothing.
func (l *Loader) Abort() error {
	if l.ended {
		return nil
	}
	l.ended = true
	defer l.e.loading.Store(false)
	var err error
	if l.store != nil {
		err = l.store.Close()
	}
	if l.tables != nil && l.tables.queue != nil {
		err = errors.Join(err, l.tables.stop()) // what has come stays for the next load
	}
	return errors.Join(err, l.e.disk.fs.RemoveAll(l.dir))
}

// Commit replaces data and log by what was read: the log begins at off with this lineage, whose last entry is the current id.
// It happens wholly or not at all, whatever crash comes in between (switch.go). Watched keys count as changed. It waits until
// views of the old store are closed, or ctx ends; then, and after any other error, data and log are what they were, and what
// was read is dropped. REQUIRES: nobody reads the log.
func (l *Loader) Commit(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error {
	if l.ended {
		return ErrLoaded
	}
	e := l.e
	e.streamMu.Lock()
	defer e.streamMu.Unlock()
	if err := l.finish(ctx, off, lineage); err != nil {
		return errors.Join(fmt.Errorf("load: %w", err), l.Abort())
	}
	e.check.one.Lock()
	defer e.check.one.Unlock()
	e.loadTook.Store(int64(e.now().Sub(l.began)))
	begun, err := e.switchTo(ctx, switchMark{Offset: off, Lineage: lineage})
	if !begun {
		return errors.Join(fmt.Errorf("load: %w", err), l.Abort())
	}
	l.ended = true
	e.loading.Store(false)
	if rerr := e.disk.fs.RemoveAll(e.path(partialName)); rerr != nil {
		e.logger.Warn("deleting what is left of an older full sync failed, the next one tries again", "error", rerr)
	}
	return err
}

// finish makes the new store whole and closes it, verified.
func (l *Loader) finish(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error {
	if len(lineage) == 0 || off < 0 {
		return fmt.Errorf("%d replication ids up to offset %d", len(lineage), off)
	}
	if err := wal.CheckLineage(lineage, off); err != nil {
		return err
	}
	if l.rdb {
		return l.finishRDB(ctx, off, lineage)
	}
	return l.checkTables(off)
}

func (l *Loader) finishRDB(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error {
	m := l.layout.meta(l.e.opts.Databases, off)
	if l.runs > 1 { // within one run a key that comes twice was found by sorting
		if err := l.checkOnce(ctx, m.DBs); err != nil {
			return err
		}
	}
	var err error
	if m.Lineage, err = json.Marshal(lineage); err != nil {
		return err
	}
	m.SelectedDB, m.NextOID, m.ReplID = l.aux.db, l.oid, lineage[len(lineage)-1].ID
	m.CreatedMs = l.e.now().UnixMilli()
	ing, err := l.store.NewIngest()
	if err != nil {
		return err
	}
	if err := ing.Commit(ctx, m); err != nil {
		return err
	}
	return l.store.Close()
}

// checkTables verifies a store that came as tables. Their sums were checked as they came: they are not read again.
func (l *Loader) checkTables(off wal.Offset) error {
	if !l.whole {
		return errors.New("nothing has come")
	}
	m, err := l.e.metaOf(l.dir)
	if err != nil {
		return err
	}
	if m.C != off {
		return fmt.Errorf("the store stands at offset %d, not at %d", m.C, off)
	}
	for _, d := range m.DBs {
		if d.Logical >= l.e.opts.Databases && d.Keys > 0 {
			return fmt.Errorf("%w: keys in database %d, there are %d: raise the number of databases", ErrForeignData, d.Logical, l.e.opts.Databases)
		}
	}
	return nil
}
