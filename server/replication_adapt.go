package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

// replSource is what the primary serves from: the engine.
type replSource struct{ s *Server }

func (r replSource) Log() *wal.Log { return r.s.eng.Log() }

func (r replSource) AppendOwn(args ...[]byte) (wal.Offset, bool) { return r.s.eng.AppendOwn(args...) }

// OpenSnapshot implements replication.Source: the snapshot store as it stands, at its C. A store that has nothing yet gets a
// checkpoint, too: a replica judges by the keys in it whom it follows.
func (r replSource) OpenSnapshot(ctx context.Context) (*replication.Snapshot, error) {
	e := r.s.eng
	if err := e.FreshenForSync(ctx, min(rdbReplayRate, r.s.repl.primary.ReplayRate())); err != nil {
		return nil, err
	}
	v, err := e.OpenExport()
	if err != nil {
		return nil, err
	}
	m := v.Meta()
	lineage := lineageAt(e.Log().Lineage(), m.C)
	id := lineage[len(lineage)-1].ID
	return &replication.Snapshot{
		ID: id, C: m.C, Pin: v.Pin,
		Write: func(ctx context.Context, w io.Writer, noData bool) error {
			if version, oldest := engine.ExportVersion(&m); version > rdb.Version && !noData {
				r.s.log.Warn("snapshot has hashes whose fields expire, an older redis-server will refuse it",
					"rdb-type", rdb.TypeHashMetadata.String(), "rdb-version", version, "oldest-redis", oldest)
			}
			return e.ExportRDB(ctx, v.View, w, engine.ExportOptions{ID: id, Lineage: lineage, NoData: noData, Paced: true})
		},
		Close: func() { _ = v.Close() }, // what is only read has nothing to lose
	}, nil
}

// rdbReplayRate is how many bytes a second a replica that loads a file is believed to replay of what the store lacks, at most: far less than
// it does, since a redis-server first loads and then has all of the stream to make up for, on one thread, beside the clients' writes. A full
// sync of 3 million keys with the store as it stood had its link up after 2.6 s and the end of the stream after 6.6 s (docs/bench/sync.md, with
// a checkpoint before: 4.2 and 4.3 s). The number is chosen so that nearly always a checkpoint is taken, not measured.
const rdbReplayRate = 8e6

// fresh takes a checkpoint if the store lies so far behind that it is sooner than the replay of what lies between.
func (r replSource) fresh(ctx context.Context) error {
	return r.s.eng.FreshenForSync(ctx, r.s.repl.primary.ReplayRate())
}

// OpenTables implements replication.TableSource: the store's files, shared by all replicas that ask meanwhile.
func (r replSource) OpenTables(ctx context.Context) (*replication.Snapshot, error) {
	e := r.s.eng
	t, err := e.OpenTables(ctx, r.fresh)
	if err != nil {
		return nil, err
	}
	lineage := lineageAt(e.Log().Lineage(), t.C())
	tables := &replication.Tables{
		Lineage: lineage,
		Open:    func(name string) (replication.TableReader, error) { return t.Open(name) },
		Done:    t.Done,
	}
	for _, f := range t.Files() {
		tables.Files = append(tables.Files, replication.TableFile(f))
	}
	return &replication.Snapshot{ID: lineage[len(lineage)-1].ID, C: t.C(), Pin: t.Pin, Close: t.Close, Tables: tables}, nil
}

// lineageAt returns the history up to c as somebody has it who gets the data at c under the current id: ids that came to an end
// behind c end at c, and the current one goes on from there at the latest.
func lineageAt(all []wal.LineageEntry, c wal.Offset) []wal.LineageEntry {
	var out []wal.LineageEntry
	last := all[len(all)-1]
	for _, e := range all[:len(all)-1] {
		if e.Start >= c {
			break
		}
		e.End = min(e.End, c)
		out = append(out, e)
	}
	last.Start, last.End = min(last.Start, c), -1
	return append(out, last)
}

// replSink is where the replica puts what it gets: the engine.
type replSink struct{ s *Server }

func (r replSink) Log() *wal.Log { return r.s.eng.Log() }

func (r replSink) Position() (string, wal.Offset) {
	id, end, _ := r.s.eng.Position()
	return id, end
}

func (r replSink) ApplyStream(ctx context.Context, data []byte) (int, error) {
	n, err := r.s.eng.ApplyStream(ctx, data)
	if refused := (*engine.ReplayError)(nil); errors.As(err, &refused) {
		err = &replication.ForeignError{Err: err}
	}
	return n, err
}

func (r replSink) AdoptID(ctx context.Context, id string) error { return r.s.eng.AdoptID(ctx, id) }

func (r replSink) BeginLoad(ctx context.Context) (replication.Loader, error) {
	l, err := r.s.eng.BeginLoad(ctx)
	if err != nil {
		return nil, err
	}
	return guardedLoader{l, r.s}, nil
}

// guardedLoader does not let a primary that has as good as nothing replace data of another history: it may have been started
// with the wrong directory, or lost its disk.
type guardedLoader struct {
	*engine.Loader
	s *Server
}

// emptyShare: a primary has as good as nothing if it has less than this part of our keys.
const emptyShare = 100

// RDB implements replication.Loader.
func (g guardedLoader) RDB(ctx context.Context, r io.Reader) error {
	err := g.Loader.RDB(ctx, r)
	if errors.Is(err, engine.ErrForeignData) {
		err = &replication.ForeignError{Err: err}
	}
	return err
}

// Commit implements replication.Loader.
func (g guardedLoader) Commit(ctx context.Context, off wal.Offset, lineage []wal.LineageEntry) error {
	if err := g.check(off, lineage); err != nil {
		return errors.Join(err, g.Abort())
	}
	if err := g.Loader.Commit(ctx, off, lineage); err != nil {
		return err
	}
	// The offset may be less than what was durable before.
	g.s.replaced(g.s.eng.Log().Durable())
	return nil
}

func (g guardedLoader) check(off wal.Offset, lineage []wal.LineageEntry) error {
	if g.s.cfg.Bool("replica-accept-empty-primary") {
		return nil
	}
	st := g.s.eng.Stats()
	ours := 0
	for _, db := range st.DBs {
		ours += db.Keys
	}
	_, theirs := g.Progress()
	id := lineage[len(lineage)-1].ID
	known := slices.ContainsFunc(g.s.eng.Log().Lineage(), func(e wal.LineageEntry) bool { return e.ID == id })
	if ours == 0 || known || theirs*emptyShare >= int64(ours) || off >= st.End {
		return nil
	}
	return fmt.Errorf("refused: the primary has another history (replication id %s, offset %d) with %d keys, this replica has %d: "+
		"to have them replaced set replica-accept-empty-primary yes", id, int64(off), theirs, ours)
}

// replaced notes that data and log are others now.
func (s *Server) replaced(durable wal.Offset) {
	g := &s.repl.gate
	g.mu.Lock()
	g.durable = durable
	g.mu.Unlock()
	s.release(-1)
}
