package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// rows are what a store should hold, the meta row aside.
type rows map[string]string

// model makes checkpoints out of random changes and keeps what the store should hold after each.
type model struct {
	r     *rand.Rand
	keys  int // names to choose from; few, so that they collide
	dbs   []modelDB
	meta  Meta
	rows  rows
	dead  [][2][]byte // range deletes of the next checkpoint
	mu    sync.Mutex  // held while at and metas are changed, and by who looks at them in another goroutine
	at    map[wal.Offset]rows
	metas map[wal.Offset]Meta
}

// seen is what the model knows of checkpoints, while its history may go on.
func (m *model) seen() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &model{keys: m.keys, at: maps.Clone(m.at), metas: maps.Clone(m.metas)}
}

type modelDB struct {
	phys uint32
	keys map[string]modelKey
}

type modelKey struct {
	val    string
	expire int64
	oid    uint64
	elems  []string
}

func newModel(seed uint64, keys int) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, 7)), keys: keys, meta: Meta{NextOID: 1, NextPhys: 1}, rows: rows{}}
	for i := range 2 {
		m.dbs = append(m.dbs, modelDB{uint32(i), map[string]modelKey{}})
	}
	m.at = map[wal.Offset]rows{0: {}}
	m.metas = map[wal.Offset]Meta{}
	return m
}

// fork goes on from the checkpoint at c as if nothing had come after it, with rows of which it knows nothing but how to
// overwrite them.
func (m *model) fork(c wal.Offset) *model {
	f := newModel(uint64(c)+1, m.keys)
	f.rows = maps.Clone(m.at[c])
	f.meta = m.metas[c]
	f.meta.C = c
	f.meta.NextPhys += 2
	f.meta.NextOID = max(f.meta.NextOID, 1)
	for i := range f.dbs {
		f.dbs[i].phys = f.meta.NextPhys - uint32(i)
	}
	for phys := range f.meta.NextPhys - 1 {
		f.kill(phys)
	}
	f.at = maps.Clone(m.at)
	return f
}

func (m *model) kill(phys uint32) {
	for _, r := range [][2][]byte{bounds(keyspace.MainRange(phys)), bounds(keyspace.ElemRange(phys)), bounds(keyspace.ExpireRange(phys))} {
		m.dead = append(m.dead, r)
	}
}

func bounds(lo, hi []byte) [2][]byte { return [2][]byte{lo, hi} }

// change makes n random changes.
func (m *model) change(n int) {
	for range n {
		db := &m.dbs[m.r.IntN(len(m.dbs))]
		name := fmt.Sprintf("key:%d", m.r.IntN(m.keys))
		old, had := db.keys[name]
		drop := func() {
			if old.oid != 0 {
				m.dead = append(m.dead, bounds(keyspace.ElemObjectRange(db.phys, old.oid)))
			}
		}
		switch p := m.r.IntN(100); {
		case p < 55:
			drop()
			db.keys[name] = modelKey{val: fmt.Sprintf("%0*d", 1+m.r.IntN(60), m.r.IntN(1000))}
		case p < 65:
			drop()
			delete(db.keys, name)
		case p < 75 && had:
			old.expire = int64(1 + m.r.IntN(50))
			db.keys[name] = old
		case p < 85: // a new big collection
			drop()
			k := modelKey{oid: m.meta.NextOID}
			m.meta.NextOID++
			for i := range 1 + m.r.IntN(6) {
				k.elems = append(k.elems, fmt.Sprintf("f%d", i))
			}
			db.keys[name] = k
		case p < 97 && old.oid != 0: // an element more, an element less
			if len(old.elems) > 1 && m.r.IntN(2) == 0 {
				old.elems = slices.Clone(old.elems[1:])
			} else {
				old.elems = append(slices.Clone(old.elems), fmt.Sprintf("g%d", m.r.IntN(1000)+1000*len(old.elems)))
			}
			db.keys[name] = old
		case p == 99: // FLUSHDB
			m.kill(db.phys)
			m.meta.NextPhys++
			*db = modelDB{m.meta.NextPhys, map[string]modelKey{}}
		}
	}
}

// mainRow encodes a main row's value as package keyspace reads it.
func mainRow(k modelKey) []byte {
	var flags byte
	typ := keyspace.TypeString
	if k.oid != 0 {
		flags, typ = 2, keyspace.TypeHash
	}
	if k.expire != 0 {
		flags |= 1
	}
	b := []byte{flags, byte(typ)<<4 | byte(keyspace.EncRaw)}
	if k.expire != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(k.expire))
	}
	if k.oid != 0 {
		b = binary.BigEndian.AppendUint64(b, k.oid)
		return binary.AppendUvarint(b, uint64(len(k.elems)))
	}
	return append(append(b, 0, byte(len(k.val))), k.val...)
}

func (m *model) wanted() (rows, []DBMeta) {
	out := rows{}
	var dbs []DBMeta
	for i, db := range m.dbs {
		d := DBMeta{Logical: i, Phys: db.phys, Keys: int64(len(db.keys))}
		for name, k := range db.keys {
			key := []byte(name)
			slot, hash := keyspace.Slot(key), keyspace.KeyHash(key)
			out[string(keyspace.AppendMainKey(nil, db.phys, slot, hash, key))] = string(mainRow(k))
			if k.expire != 0 {
				d.Expires++
				out[string(keyspace.AppendExpireKey(nil, db.phys, k.expire, slot, hash, key))] = ""
			}
			for _, e := range k.elems {
				out[string(keyspace.AppendElemKey(nil, db.phys, k.oid, []byte(e)))] = "value of " + e
			}
		}
		dbs = append(dbs, d)
	}
	return out, dbs
}

// checkpoint ingests what has changed. On error the model is as it was, and the next one carries the same and more.
func (m *model) checkpoint(s *Store) error {
	return m.enter(s, m.prepare())
}

// prepare notes what the next checkpoint will hold, before the ingest: a crash in its middle may leave either.
func (m *model) prepare() Meta {
	want, dbs := m.wanted()
	meta := m.meta
	meta.C += 1 + wal.Offset(m.r.IntN(100))
	meta.DBs, meta.Format, meta.CreatedMs = dbs, plainFormat, int64(meta.C)*10
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at[meta.C], m.metas[meta.C] = want, meta
	return meta
}

// enter ingests what prepare has noted.
func (m *model) enter(s *Store, meta Meta) error {
	want := m.at[meta.C]
	g, err := s.NewIngest()
	if err != nil {
		return err
	}
	if err := m.fill(g, want); err != nil {
		return errors.Join(err, g.Abort())
	}
	if err := g.Commit(context.Background(), meta); err != nil {
		return err
	}
	m.rows, m.meta, m.dead = want, meta, nil
	return nil
}

func (m *model) fill(g *Ingest, want rows) error {
	for _, r := range m.dead {
		if err := g.DeleteRange(r[0], r[1]); err != nil {
			return err
		}
	}
	all := maps.Clone(m.rows)
	maps.Copy(all, want)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		old, had := m.rows[k]
		val, has := want[k]
		var err error
		switch {
		case !has && m.covered(k): // the range delete does it
		case !has:
			err = g.Delete([]byte(k))
		case !had || old != val || m.covered(k):
			err = g.Set([]byte(k), []byte(val))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *model) covered(k string) bool {
	for _, r := range m.dead {
		if k >= string(r[0]) && k < string(r[1]) {
			return true
		}
	}
	return false
}

func ctx() context.Context { return context.Background() }

type reader interface {
	NewIter(lower, upper []byte) (*Iter, error)
	Get(key []byte) ([]byte, bool, error)
}

// compare reads everything, by walking and by Get, and tells the first difference.
func compare(r reader, want rows) (err error) {
	it, err := r.NewIter([]byte{keyspace.TagMeta, 0}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if v, ok := want[string(it.Key())]; !ok || v != string(it.Value()) {
			return fmt.Errorf("row %q is %q, want %q (%v)", it.Key(), it.Value(), v, ok)
		}
		n++
	}
	if err := it.Err(); err != nil {
		return err
	}
	if n != len(want) {
		return fmt.Errorf("%d rows, want %d", n, len(want))
	}
	for k, v := range want {
		got, ok, err := r.Get([]byte(k))
		if err != nil || !ok || string(got) != v {
			return fmt.Errorf("get of row %q: %q, %v, %v", k, got, ok, err)
		}
		if _, ok, err := r.Get([]byte(k + "\x00")); ok || err != nil {
			return fmt.Errorf("get of a row that does not exist: %v, %v", ok, err)
		}
	}
	return nil
}

func testOptions(fs vfs.FS) Options {
	return Options{FS: fs, Dir: "snapshot", TableBytes: 2 << 10, CacheBytes: 1 << 20}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	require.NoError(t, err)
	return s
}

func mustCheck(t testing.TB, o Options) {
	t.Helper()
	require.NoError(t, Check(ctx(), o, func(string) {}))
}

// A long random history: what the store holds is what the model holds, before and after a reopen, and Check agrees.
func TestHistory(t *testing.T) {
	for seed := range uint64(4) {
		o := testOptions(vfs.NewMem())
		s := mustOpen(t, o)
		require.Equal(t, wal.Offset(0), s.Meta().C)
		m := newModel(seed, 120)
		for i := range 48 {
			m.change(m.r.IntN(80))
			require.NoError(t, m.checkpoint(s), "seed %d", seed)
			require.NoError(t, compare(s, m.rows), "seed %d, checkpoint %d", seed, i)
			require.Equal(t, m.meta, s.Meta())
			if i%10 == 9 {
				require.NoError(t, s.Close())
				mustCheck(t, o)
				s = mustOpen(t, o)
				require.NoError(t, compare(s, m.rows))
				require.Equal(t, m.meta, s.Meta())
			}
		}
		met := s.Metrics()
		require.Positive(t, met.Compactions, "the history should be long enough for compactions")
		for _, l := range s.db.Metrics().Levels {
			require.Zero(t, l.TablesFlushed, "S2: the memtable stays empty")
		}
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
	}
}

// An ingest is cut into tables of bounded size that do not overlap, range deletes across the cuts included.
func TestTablesAreBounded(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.TableBytes = 8 << 10
	s := mustOpen(t, o)
	r := rand.New(rand.NewPCG(1, 1))
	val := make([]byte, 100)
	fill := func(c wal.Offset, step int, del bool) {
		g, err := s.NewIngest()
		require.NoError(t, err)
		if del {
			// Out of order, overlapping and touching: they are one range in the end, which every table has its part of.
			for _, r := range [][2]string{{"k5", "k7"}, {"k0", "k5"}, {"k6", "k9999"}, {"k1", "k2"}} {
				require.NoError(t, g.DeleteRange([]byte(r[0]), []byte(r[1])))
			}
		}
		for i := 0; i < 4000; i += step {
			for j := range val {
				val[j] = byte(r.Uint32())
			}
			require.NoError(t, g.Set(fmt.Appendf(nil, "k%04d", i), val))
		}
		require.Positive(t, g.Size())
		names := len(g.names)
		require.NoError(t, g.Commit(ctx(), Meta{C: c}))
		require.Greater(t, names, 5)
	}
	fill(1, 1, false)
	levels, err := s.db.SSTables()
	require.NoError(t, err)
	for _, l := range levels {
		for _, table := range l {
			require.Less(t, table.Size, uint64(o.TableBytes+2*blockBytes))
		}
	}
	fill(2, 7, true)
	n := 0
	it, err := s.NewIter([]byte("k"), []byte("l"))
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		require.Equal(t, fmt.Sprintf("k%04d", n*7), string(it.Key()))
		n++
	}
	require.NoError(t, it.Close())
	require.Equal(t, (4000+6)/7, n, "rows of the first ingest are gone, rows of the second are there")
	require.NoError(t, s.Close())
}

// An ingest of nothing but range deletes, and one of nothing at all: C moves.
func TestIngestWithoutRows(t *testing.T) {
	ctx := ctx()
	s := mustOpen(t, testOptions(vfs.NewMem()))
	g, err := s.NewIngest()
	require.NoError(t, err)
	require.NoError(t, g.Set([]byte("k1"), nil))
	require.NoError(t, g.Commit(ctx, Meta{C: 1}))
	v, ok, err := s.Get([]byte("k1"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []byte{}, v)

	g, err = s.NewIngest()
	require.NoError(t, err)
	require.NoError(t, g.Commit(ctx, Meta{C: 2}))
	require.Equal(t, wal.Offset(2), s.Meta().C)

	g, err = s.NewIngest()
	require.NoError(t, err)
	require.NoError(t, g.DeleteRange([]byte("k"), []byte("l")))
	require.NoError(t, g.Commit(ctx, Meta{C: 3}))
	require.NoError(t, compare(s, rows{}))
	require.NoError(t, s.Close())
}

// What is wrong is refused, and an ingest that met an error leaves nothing.
func TestIngestRefuses(t *testing.T) {
	ctx := ctx()
	fs := vfs.NewMem()
	s := mustOpen(t, testOptions(fs))
	begin := func() *Ingest {
		g, err := s.NewIngest()
		require.NoError(t, err)
		return g
	}
	for name, fn := range map[string]func(g *Ingest) error{
		"the same key again":      func(g *Ingest) error { return errors.Join(g.Set([]byte("k1"), nil), g.Delete([]byte("k1"))) },
		"a smaller key":           func(g *Ingest) error { return errors.Join(g.Set([]byte("k2"), nil), g.Set([]byte("k1"), nil)) },
		"the key of the meta row": func(g *Ingest) error { return g.Set(metaKey, nil) },
		"no key":                  func(g *Ingest) error { return g.Delete(nil) },
		"a range delete after a point": func(g *Ingest) error {
			return errors.Join(g.Set([]byte("k"), nil), g.DeleteRange([]byte("l"), []byte("m")))
		},
		"a range delete of the meta row":  func(g *Ingest) error { return g.DeleteRange(metaKey, []byte("m")) },
		"a range delete that ends early":  func(g *Ingest) error { return g.DeleteRange([]byte("m"), []byte("l")) },
		"an empty range delete":           func(g *Ingest) error { return g.DeleteRange([]byte("m"), []byte("m")) },
		"a point after a range in error":  func(g *Ingest) error { _ = g.DeleteRange([]byte("m"), nil); return g.Set([]byte("z"), nil) },
		"a range delete after that error": func(g *Ingest) error { _ = g.Set(nil, nil); return g.DeleteRange([]byte("m"), []byte("n")) },
	} {
		g := begin()
		require.ErrorIs(t, fn(g), ErrOrder, name)
		require.ErrorIs(t, g.Commit(ctx, Meta{C: 9}), ErrOrder, name)
		require.ErrorIs(t, g.Commit(ctx, Meta{C: 9}), ErrClosed, name)
	}

	g := begin()
	_, err := s.NewIngest()
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, g.Set([]byte("k1"), bytes.Repeat([]byte("x"), 10000)))
	require.NoError(t, g.Set([]byte("k2"), nil))
	require.NoError(t, g.Abort())
	require.NoError(t, g.Abort())
	require.ErrorIs(t, g.Set([]byte("k3"), nil), ErrClosed)

	g = begin()
	require.NoError(t, g.Set([]byte("k1"), nil))
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, g.Commit(canceled, Meta{C: 9}), context.Canceled)

	var corrupt *CorruptionError
	for name, m := range map[string]Meta{
		"negative":       {C: -1},
		"database twice": {C: 9, DBs: []DBMeta{{Logical: 1}, {Logical: 1, Phys: 1}}, NextPhys: 1},
		"shared phys":    {C: 9, DBs: []DBMeta{{Logical: 1}, {Logical: 2}}},
		"phys not given": {C: 9, DBs: []DBMeta{{Logical: 1, Phys: 1}}},
		"counts":         {C: 9, DBs: []DBMeta{{Keys: 1, Expires: 2}}},
		"selected":       {C: 9, SelectedDB: -1},
	} {
		err := begin().Commit(ctx, m)
		require.Error(t, err, name)
		if m.C >= 0 {
			require.ErrorAs(t, err, &corrupt, name)
		}
	}
	names, err := fs.List("snapshot/ingest")
	require.NoError(t, err)
	require.Empty(t, names)
	require.Equal(t, wal.Offset(0), s.Meta().C)
	require.NoError(t, compare(s, rows{}))

	require.NoError(t, begin().Commit(ctx, Meta{C: 9}))
	require.ErrorContains(t, begin().Commit(ctx, Meta{C: 8}), "stands at 9")
	require.NoError(t, s.Close())
	_, err = s.NewIngest()
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.View()
	require.ErrorIs(t, err, ErrClosed)
}
