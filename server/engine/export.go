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
}

const (
	// exportRows is how many rows are read with one iterator: it keeps the tables that it reads on disk.
	exportRows = 1 << 16
	// exportLook is after how many keys an export asks whether it is still wanted.
	exportLook = 1 << 10
	// exportRedis is the version of Redis that the file names: the oldest that loads it as it is.
	exportRedis = "5.0.0"
)

// ExportRDB writes the data of a view as an RDB file that Redis >= 5 loads, straight from the rows: small values are copied as
// they are, big collections element by element, so that memory does not depend on what there is (M1). Keys that have expired
// are written, too, with their expiry: they are keys until the DEL in the stream. A damaged row ends it with an error before the
// file's end is written, so that no part of a file is taken for a whole one. The view stays the caller's.
func (e *Engine) ExportRDB(ctx context.Context, v *snapshot.View, w io.Writer, o ExportOptions) error {
	m := v.Meta()
	x := &exporter{ctx: ctx, v: v, f: rdb.NewFileWriter(w), progress: o.Progress}
	lineage, err := json.Marshal(o.Lineage)
	if err != nil {
		return err
	}
	for _, a := range [][2]string{
		{"redis-ver", exportRedis}, {"redis-bits", strconv.Itoa(strconv.IntSize)}, {"ctime", strconv.FormatInt(e.now().Unix(), 10)},
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
	elems    []byte
	at       []byte // the row after which a walk goes on
}

func (x *exporter) db(d snapshot.DBMeta) error {
	if err := x.f.SelectDB(d.Logical); err != nil {
		return err
	}
	if err := x.f.ResizeDB(uint64(d.Keys), uint64(d.Expires)); err != nil {
		return err
	}
	keys := int64(0)
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
	if err == nil && keys != d.Keys {
		err = fmt.Errorf("%d keys where the store says %d", keys, d.Keys)
	}
	return err
}

// walk calls visit for the rows in [lo, hi).
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
			if err := visit(it.Key(), it.Value()); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) key(phys uint32, key []byte, h *keyspace.RowHeader) error {
	if x.keys++; x.keys%exportLook == 0 {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if x.progress != nil {
			x.progress(x.keys)
		}
	}
	expire := h.ExpireAt
	if expire == 0 {
		expire = -1
	}
	if !h.Big {
		return x.f.Key(key, expire, h.Value)
	}
	t, ok := h.Type.PlainType()
	if !ok {
		return fmt.Errorf("key %q: a big %s", key, h.Type)
	}
	if err := x.f.BeginKey(key, expire, t, h.Count); err != nil {
		return err
	}
	elems := uint64(0)
	lo, hi := keyspace.ElemObjectRange(phys, h.OID)
	err := x.walk(lo, hi, func(row, val []byte) error {
		_, _, sub, ok := keyspace.ParseElemKey(row)
		if !ok {
			return fmt.Errorf("key %q: element row %x is malformed", key, row)
		}
		var n int
		var err error
		if x.elems, n, err = keyspace.AppendRowElements(x.elems[:0], h.Type, sub, val); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if elems += uint64(n); elems%exportLook == 0 && x.ctx.Err() != nil {
			return x.ctx.Err()
		}
		return x.f.Elements(x.elems)
	})
	if err == nil && elems != h.Count {
		err = fmt.Errorf("key %q: %d elements where its row says %d", key, elems, h.Count)
	}
	return err
}
