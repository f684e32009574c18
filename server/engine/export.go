package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/snapshot/rdb"
	"github.com/holdfast-db/holdfast/wal"
)

// ExportOptions say what an exported file tells beside the data.
type ExportOptions struct {
	// ID and Lineage are the history that the data belong to; the lineage ends with ID and reaches no further than the data.
	ID      string
	Lineage []wal.LineageEntry
	// NoData leaves the keys out.
	NoData bool
	// Progress, if not nil, is called now and then with the keys written so far.
	Progress func(keys int64)
	// Paced has the export leave processor time to clients where it is short. It takes longer then.
	Paced bool
}

const (
	// exportRows is how many rows are read with one iterator: it keeps the tables that it reads on disk.
	exportRows = 1 << 16
	// exportLook is after how many rows an export asks whether it is still wanted, and after how many keys it tells of them; it asks
	// after exportLookBytes of their values at the latest, a millisecond's work.
	exportLook      = 1 << 10
	exportLookBytes = 1 << 20
	// exportRedis is the version of Redis that the file names: the oldest that loads it as it is. exportRedisTimed is the same where
	// fields of hashes expire.
	exportRedis      = "5.0.0"
	exportRedisTimed = "7.4.0"
)

// ExportVersion tells the RDB version of the file that ExportRDB writes of a store, and the oldest Redis that loads it: times of
// hashes' fields have no form before RDB 12, and are never left out.
func ExportVersion(m *snapshot.Meta) (rdbVersion int, redis string) {
	for _, d := range m.DBs {
		if d.Timed > 0 {
			return rdb.FieldTTLVersion, exportRedisTimed
		}
	}
	return rdb.Version, exportRedis
}

// ExportRDB writes the data of a view as an RDB file that Redis >= 5 loads (>= 7.4 if fields of hashes expire), straight from the rows: small values are copied as
// they are, big collections element by element, so that memory does not depend on what there is (M1). Keys that have expired
// are written, too, with their expiry: they are keys until the DEL in the stream. A damaged row ends it with an error before the
// file's end is written, so that no part of a file is taken for a whole one. The view stays the caller's.
func (e *Engine) ExportRDB(ctx context.Context, v *snapshot.View, w io.Writer, o ExportOptions) error {
	m := v.Meta()
	if err := wal.CheckLineage(o.Lineage, m.C); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if n := len(o.Lineage); n == 0 || o.Lineage[n-1].ID != o.ID {
		return fmt.Errorf("export: a lineage of %d ids that does not end with the data's own (W3)", n)
	}
	version, redis := ExportVersion(&m)
	x := &exporter{ctx: ctx, v: v, f: rdb.NewFileWriterOf(w, version), progress: o.Progress, now: e.now, began: e.now(), endPause: func() {}}
	if !o.NoData {
		x.endPause = e.pauseMerges()
		defer x.endPause()
		if o.Paced {
			pace, end := pacedThread()
			x.pace = pace
			defer end()
		}
	}
	lineage, err := json.Marshal(o.Lineage)
	if err != nil {
		return err
	}
	for _, a := range [][2]string{
		{"redis-ver", redis}, {"redis-bits", strconv.Itoa(strconv.IntSize)}, {"ctime", strconv.FormatInt(e.now().Unix(), 10)},
		{"used-mem", "0"}, {"repl-stream-db", strconv.Itoa(m.SelectedDB)}, {"repl-id", o.ID},
		{"repl-offset", strconv.FormatInt(int64(m.C), 10)}, {LineageAux, string(lineage)}, {"aof-base", "0"},
	} {
		if err := x.f.Aux(a[0], a[1]); err != nil {
			return err
		}
	}
	if !o.NoData {
		dbs := slices.Clone(m.DBs)
		slices.SortFunc(dbs, func(a, b snapshot.DBMeta) int { return cmp.Compare(a.Logical, b.Logical) })
		for _, d := range dbs {
			if d.Keys == 0 {
				continue
			}
			if err := x.db(d); err != nil {
				return fmt.Errorf("export: database %d: %w", d.Logical, err)
			}
		}
	}
	return x.f.Close()
}

// exporter is one ExportRDB.
type exporter struct {
	ctx      context.Context
	v        *snapshot.View
	f        *rdb.FileWriter
	progress func(keys int64)
	keys     int64
	expires  int64
	rows     int64
	bytes    int64       // of values since it last looked
	pace     *exportPace // nil: not paced
	elems    []byte
	now      func() time.Time
	began    time.Time
	endPause func() // lets the store's compactions go on
}

// exportPause is for how long an export keeps the store from merging tables. A merge may take as much of the processor as the export
// itself, and what the checkpoints of a sync's few seconds leave can wait until it is done; not for as long as a slow link takes,
// since reads of cold keys have the more tables to ask.
const exportPause = 30 * time.Second

func (x *exporter) db(d snapshot.DBMeta) error {
	if err := x.f.SelectDB(d.Logical); err != nil {
		return err
	}
	if err := x.f.ResizeDB(uint64(d.Keys), uint64(d.Expires)); err != nil {
		return err
	}
	keys := int64(0)
	x.expires = 0
	lo, hi := keyspace.MainRange(d.Phys)
	err := x.walk(lo, hi, func(row, val []byte) error {
		_, _, _, key, ok := keyspace.ParseMainKey(row)
		if !ok {
			return fmt.Errorf("key %x is malformed", row)
		}
		h, err := keyspace.ParseRow(val)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		keys++
		return x.key(d.Phys, key, &h)
	})
	if err == nil && (keys != d.Keys || x.expires != d.Expires) {
		err = fmt.Errorf("%d keys, %d with an expiry, where the store says %d and %d", keys, x.expires, d.Keys, d.Expires)
	}
	return err
}

// walk calls visit for the rows in [lo, hi), until ctx ends.
func (x *exporter) walk(lo, hi []byte, visit func(row, val []byte) error) error {
	at := append([]byte(nil), lo...)
	for more := true; more; {
		it, err := x.v.NewIter(at, hi)
		if err != nil {
			return err
		}
		n := 0
		for more = it.First(); more; more = it.Next() {
			if n++; n > exportRows {
				at = append(at[:0], it.Key()...)
				break
			}
			val := it.Value()
			err := visit(it.Key(), val)
			x.bytes += int64(len(val))
			if x.rows++; err == nil && (x.rows%exportLook == 0 || x.bytes >= exportLookBytes) {
				err = x.look()
			}
			if err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	return nil
}

// look is called after every piece of work.
func (x *exporter) look() error {
	x.bytes = 0
	x.pace.step(x.ctx)
	if x.now().Sub(x.began) >= exportPause {
		x.endPause()
	}
	return x.ctx.Err()
}

func (x *exporter) key(phys uint32, key []byte, h *keyspace.RowHeader) error {
	if x.keys++; x.keys%exportLook == 0 && x.progress != nil {
		x.progress(x.keys)
	}
	expire := int64(-1)
	if h.ExpireAt != 0 {
		expire = h.ExpireAt
		x.expires++
	}
	if !h.Big {
		if err := checkSmall(h); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		return x.f.Key(key, expire, h.Value)
	}
	t, ok := h.Type.PlainType()
	if !ok {
		return fmt.Errorf("key %q: a big %s", key, h.Type)
	}
	var err error
	times := fieldTimesWalk{open: x.v.NewIter, phys: phys, oid: h.TimesOID}
	if h.TimesOID != 0 {
		err = x.f.BeginFieldTTLs(key, expire, h.FieldsExpireAt, h.Count)
	} else {
		err = x.f.BeginKey(key, expire, t, h.Count)
	}
	if err != nil {
		return err
	}
	elems := uint64(0)
	lo, hi := keyspace.ElemObjectRange(phys, h.OID)
	err = x.walk(lo, hi, func(row, val []byte) error {
		_, _, sub, ok := keyspace.ParseElemKey(row)
		if !ok {
			return fmt.Errorf("key %q: element row %x is malformed", key, row)
		}
		var n int
		var err error
		if h.TimesOID != 0 {
			at, err := times.next(sub)
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			elems++
			x.elems = rdb.AppendFieldTTL(x.elems[:0], sub, val, at, h.FieldsExpireAt)
			return x.f.Elements(x.elems)
		}
		if x.elems, n, err = keyspace.AppendRowElements(x.elems[:0], h.Type, sub, val); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		elems += uint64(n)
		return x.f.Elements(x.elems)
	})
	if cerr := times.close(h.Times); err == nil && cerr != nil {
		err = fmt.Errorf("key %q: %w", key, cerr)
	}
	if err == nil && elems != h.Count {
		err = fmt.Errorf("key %q: %d elements where its row says %d", key, elems, h.Count)
	}
	return err
}

var errSmallValue = errors.New("a value that is not what its row says")

// checkSmall tells whether a small value is of its row's type and exactly as long as it says: copied unseen, one wrong length
// would make something else of all keys behind it.
func checkSmall(h *keyspace.RowHeader) error {
	t, payload := rdb.Type(h.Value[0]), h.Value[1:]
	if h.Type == keyspace.TypeString {
		if _, rest, ok := rdb.ReadString(payload); !ok || len(rest) > 0 || t != rdb.TypeString {
			return errSmallValue
		}
		return nil
	}
	plain, ok := h.Type.PlainType()
	if h.FieldsExpireAt != 0 {
		plain = rdb.TypeHashMetadata
	}
	if !ok || t != plain {
		return errSmallValue
	}
	rest, err := rdb.SkipValue(t, payload)
	if err == nil && len(rest) > 0 {
		err = errSmallValue
	}
	return err
}
