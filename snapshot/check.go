package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// Check verifies a store offline without changing it: format and meta row; every block's checksum, by reading all rows;
// every key parses and stands at its place; counts equal the meta row's; each main row with an expiry has its expiry row
// and the other way round; each element row belongs to a big main row, and there are as many as it says. report gets a line
// for each thing looked at.
func Check(ctx context.Context, o Options, report func(line string)) error {
	o.ReadOnly = true
	s, err := Open(o)
	if err != nil {
		return err
	}
	return errors.Join(s.check(ctx, report), s.Close())
}

type bigRow struct {
	db   uint32
	oid  uint64
	want uint64
	list bool
}

func (s *Store) check(ctx context.Context, report func(line string)) (err error) {
	m := s.Meta()
	report(fmt.Sprintf("S2: the store stands at offset %d", m.C))
	counts := map[uint32]*DBMeta{}
	for i := range m.DBs {
		d := &m.DBs[i]
		if counts[d.Phys] != nil {
			return &CorruptionError{fmt.Sprintf("databases share the physical id %d", d.Phys), nil}
		}
		counts[d.Phys] = &DBMeta{Logical: d.Logical}
	}
	bigs := map[uint64]*bigRow{}
	var mains, elems, expires int64

	it, err := s.NewIter([]byte{0}, []byte{0xff})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		key, val := it.Key(), it.Value()
		bad := func(format string, args ...any) error {
			return &CorruptionError{fmt.Sprintf("row %x: ", key) + fmt.Sprintf(format, args...), nil}
		}
		switch key[0] {
		case keyspace.TagMeta:
			if !bytes.Equal(key, metaKey) {
				return bad("unknown")
			}
		case keyspace.TagMain:
			db, slot, hash, name, good := keyspace.ParseMainKey(key)
			if !good || slot != keyspace.Slot(name) || hash != keyspace.KeyHash(name) {
				return bad("key does not stand at its slot and hash")
			}
			c := counts[db]
			if c == nil {
				return bad("belongs to no database")
			}
			h, err := keyspace.ParseRow(val)
			if err != nil {
				return bad("%v", err)
			}
			c.Keys++
			if h.ExpireAt != 0 {
				c.Expires++
				if _, ok, err := s.Get(keyspace.AppendExpireKey(nil, db, h.ExpireAt, slot, hash, name)); err != nil {
					return err
				} else if !ok {
					return bad("has an expiry but no expiry row")
				}
			}
			if h.Big {
				if bigs[h.OID] != nil {
					return bad("shares the element rows of another key")
				}
				bigs[h.OID] = &bigRow{db, h.OID, h.Count, h.Type == keyspace.TypeList}
			}
			mains++
		case keyspace.TagElem:
			db, oid, _, good := keyspace.ParseElemKey(key)
			b := bigs[oid]
			if !good || b == nil || b.db != db {
				return bad("belongs to no collection")
			}
			// A list's rows hold several elements each; how many is for the decoder to say.
			if !b.list {
				if b.want == 0 {
					return bad("one more than its collection has")
				}
				b.want--
			}
			elems++
		case keyspace.TagExpire:
			db, at, slot, hash, name, good := keyspace.ParseExpireKey(key)
			if !good || counts[db] == nil {
				return bad("belongs to no database")
			}
			row, ok, err := s.Get(keyspace.AppendMainKey(nil, db, slot, hash, name))
			if err != nil {
				return err
			}
			if !ok {
				return bad("expiry row without its key")
			}
			if h, err := keyspace.ParseRow(row); err != nil || h.ExpireAt != at {
				return bad("expiry row differs from its key's expiry")
			}
			expires++
		default:
			return bad("unknown")
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, b := range bigs {
		if !b.list && b.want != 0 {
			return &CorruptionError{fmt.Sprintf("collection %d lacks %d element rows", b.oid, b.want), nil}
		}
	}
	for _, d := range m.DBs {
		c := counts[d.Phys]
		if c.Keys != d.Keys || c.Expires != d.Expires {
			return &CorruptionError{fmt.Sprintf("database %d has %d keys, %d with an expiry, where the meta row says %d and %d",
				d.Logical, c.Keys, c.Expires, d.Keys, d.Expires), nil}
		}
	}
	report(fmt.Sprintf("rows: %d keys, %d element rows, %d expiry rows; all parse, stand at their place, match their checksums and the meta row's counts", mains, elems, expires))
	return nil
}
