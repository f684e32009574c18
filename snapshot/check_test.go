package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/server/keyspace"
)

// planted is a store of two keys, one with an expiry and one a big collection, in which something is wrong.
type planted struct {
	meta Meta
	rows rows
}

func mainKey(phys uint32, name string) string {
	return string(keyspace.AppendMainKey(nil, phys, keyspace.Slot([]byte(name)), keyspace.KeyHash([]byte(name)), []byte(name)))
}

func expireKey(phys uint32, at int64, name string) string {
	return string(keyspace.AppendExpireKey(nil, phys, at, keyspace.Slot([]byte(name)), keyspace.KeyHash([]byte(name)), []byte(name)))
}

func elemKey(phys uint32, oid uint64, sub string) string {
	return string(keyspace.AppendElemKey(nil, phys, oid, []byte(sub)))
}

func newPlanted() *planted {
	return &planted{
		meta: Meta{C: 10, NextPhys: 2, NextOID: 8, DBs: []DBMeta{{Logical: 0, Phys: 1, Keys: 2, Expires: 1}, {Logical: 3, Phys: 2}}},
		rows: rows{
			mainKey(1, "a"):       string(mainRow(modelKey{val: "x", expire: 99})),
			expireKey(1, 99, "a"): "",
			mainKey(1, "big"):     string(mainRow(modelKey{oid: 7, elems: []string{"e", "f"}})),
			elemKey(1, 7, "e"):    "1",
			elemKey(1, 7, "f"):    "2",
		},
	}
}

func (p *planted) write(t *testing.T, o Options) {
	s := mustOpen(t, o)
	g, err := s.NewIngest()
	require.NoError(t, err)
	for _, k := range slices.Sorted(maps.Keys(p.rows)) {
		require.NoError(t, g.Set([]byte(k), []byte(p.rows[k])))
	}
	require.NoError(t, g.Commit(ctx(), p.meta))
	require.NoError(t, s.Close())
}

// Check finds each thing that can be wrong with the rows.
func TestCheckFindsRows(t *testing.T) {
	for _, c := range []struct {
		name, want string
		plant      func(p *planted)
	}{
		{"nothing", "", func(p *planted) {}},
		{"a key that the meta row does not count", "has 3 keys", func(p *planted) { p.rows[mainKey(1, "b")] = string(mainRow(modelKey{val: "y"})) }},
		{"a key that the meta row counts", "has 2 keys, 1 with an expiry, where the meta row says 3", func(p *planted) { p.meta.DBs[0].Keys++ }},
		{"an expiry that the meta row counts", "where the meta row says 2 and 2", func(p *planted) { p.meta.DBs[0].Expires++ }},
		{"a key of no database", "belongs to no database", func(p *planted) { p.rows[mainKey(9, "b")] = string(mainRow(modelKey{val: "y"})) }},
		{"a key in another slot", "slot and hash", func(p *planted) {
			p.rows[string(keyspace.AppendMainKey(nil, 1, keyspace.Slot([]byte("b"))^1, keyspace.KeyHash([]byte("b")), []byte("b")))] = string(mainRow(modelKey{val: "y"}))
		}},
		{"a key at another hash", "slot and hash", func(p *planted) {
			p.rows[string(keyspace.AppendMainKey(nil, 1, keyspace.Slot([]byte("b")), keyspace.KeyHash([]byte("b"))^1, []byte("b")))] = string(mainRow(modelKey{val: "y"}))
		}},
		{"a main row key cut short", "slot and hash", func(p *planted) { p.rows["k\x00\x00\x00\x01\x00"] = "" }},
		{"a main row without a value", "malformed row", func(p *planted) { p.rows[mainKey(1, "a")] = "" }},
		{"a main row of an unknown type", "malformed row", func(p *planted) { p.rows[mainKey(1, "a")] = "\x00\xf0\x00" }},
		{"an expiry without its row", "no expiry row", func(p *planted) { delete(p.rows, expireKey(1, 99, "a")) }},
		{"an expiry row at another time", "no expiry row", func(p *planted) {
			delete(p.rows, expireKey(1, 99, "a"))
			p.rows[expireKey(1, 98, "a")] = ""
		}},
		{"an expiry row more", "differs", func(p *planted) { p.rows[expireKey(1, 100, "a")] = "" }},
		{"an expiry row of a key without one", "differs", func(p *planted) { p.rows[expireKey(1, 100, "big")] = "" }},
		{"an expiry row without its key", "without its key", func(p *planted) { p.rows[expireKey(1, 99, "b")] = "" }},
		{"an expiry row of no database", "no database", func(p *planted) { p.rows[expireKey(9, 99, "b")] = "" }},
		{"an expiry row cut short", "no database", func(p *planted) { p.rows["x\x00\x00\x00\x01"] = "" }},
		{"an element of no collection", "no collection", func(p *planted) { p.rows[elemKey(1, 6, "e")] = "" }},
		{"an element in another database", "no collection", func(p *planted) { p.rows[elemKey(2, 7, "e")] = "" }},
		{"an element key cut short", "no collection", func(p *planted) { p.rows["o\x00\x00\x00\x01"] = "" }},
		{"an element more", "one more", func(p *planted) { p.rows[elemKey(1, 7, "g")] = "" }},
		{"an element less", "lacks 1", func(p *planted) { delete(p.rows, elemKey(1, 7, "f")) }},
		{"a collection without elements", "lacks 2", func(p *planted) {
			p.rows[mainKey(1, "c")] = string(mainRow(modelKey{oid: 6, elems: []string{"e", "f"}}))
			p.meta.DBs[0].Keys++
		}},
		{"two keys with the same elements", "shares", func(p *planted) {
			p.rows[mainKey(1, "c")] = p.rows[mainKey(1, "big")]
			p.meta.DBs[0].Keys++
		}},
		{"an object id not given yet", "object id 7", func(p *planted) { p.meta.NextOID = 7 }},
		{"an unknown row", "unknown", func(p *planted) { p.rows["z"] = "" }},
		{"an unknown row beside the meta row", "unknown", func(p *planted) { p.rows["a\x00"] = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions(vfs.NewMem())
			p := newPlanted()
			c.plant(p)
			p.write(t, o)
			var lines []string
			err := Check(ctx(), o, func(line string) { lines = append(lines, line) })
			if c.want == "" {
				require.NoError(t, err)
				require.Len(t, lines, 3)
				require.Contains(t, lines[2], "2 keys, 2 element rows, 1 expiry rows")
				return
			}
			require.ErrorContains(t, err, c.want)
			var corrupt *CorruptionError
			require.ErrorAs(t, err, &corrupt)
		})
	}
}

func TestCheckOnNothing(t *testing.T) {
	o := testOptions(vfs.NewMem())
	require.Error(t, Check(ctx(), o, func(string) {}), "a store that is not there")
	require.NoError(t, mustOpen(t, o).Close())
	mustCheck(t, o)
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	f, err := fs.Open(name)
	require.NoError(t, err)
	st, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, st.Size())
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return b
}

func writeFile(t *testing.T, fs vfs.FS, name string, b []byte) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(slices.Clone(b)) // under the race detector MemFS spoils what it was given
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Check finds a flipped bit wherever in a table it is, in blocks that newer rows hide and in filters too; and a table that
// is cut or gone.
func TestCheckFindsFlippedBits(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	s := mustOpen(t, o)
	m := newModel(3, 30)
	for range 3 {
		m.change(40)
		require.NoError(t, m.checkpoint(s))
	}
	require.NoError(t, s.Close())
	names, err := fs.List(o.Dir)
	require.NoError(t, err)
	n := 0
	damaged := func(format string, args ...any) {
		t.Helper()
		err := Check(ctx(), o, func(string) {})
		require.ErrorAs(t, err, new(*CorruptionError), append([]any{format}, args...)...)
		require.NotContains(t, err.Error(), "\n", append([]any{format}, args...)...)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := fs.PathJoin(o.Dir, name)
		good := readFile(t, fs, path)
		for i := 0; i < len(good); i += 31 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << (i % 8)
			writeFile(t, fs, path, bad)
			damaged("%s, byte %d of %d", name, i, len(good))
			n++
		}
		writeFile(t, fs, path, good[:len(good)-1])
		damaged("%s cut", name)
		require.NoError(t, fs.Remove(path))
		damaged("%s gone", name)
		writeFile(t, fs, path, good)
	}
	require.Greater(t, n, 100)
	mustCheck(t, o)
}

// A row changed under a valid checksum, as a bug would: a store that differs from the model is not what it should be.
func TestOpenRefuses(t *testing.T) {
	write := func(t *testing.T, o Options, value string) {
		s := mustOpen(t, o)
		g, err := s.NewIngest()
		require.NoError(t, err)
		require.NoError(t, g.table())
		require.NoError(t, g.w.Set(metaKey, []byte(value)))
		require.NoError(t, g.finish())
		require.NoError(t, s.db.Ingest(ctx(), g.names))
		require.NoError(t, g.Abort())
		require.NoError(t, s.Close())
	}
	var corrupt *CorruptionError
	for value, want := range map[string]any{
		`{"Format":3,"C":"some other type"}`: ErrFormat,
		`{"Format":2,"C":"x"}`:               &corrupt,
		`{"Format":0}`:                       ErrFormat,
		`{"Format":1,"C":"x"}`:               &corrupt,
		`{"Format":1,"C":-5}`:                &corrupt,
		`{"Format":1`:                        &corrupt,
		``:                                   &corrupt,
	} {
		o := testOptions(vfs.NewMem())
		write(t, o, value)
		_, err := Open(o)
		if sentinel, ok := want.(error); ok {
			require.ErrorIs(t, err, sentinel, value)
		} else {
			require.ErrorAs(t, err, want, value)
		}
	}

	// A Pebble that is no store of ours.
	o := testOptions(vfs.NewMem())
	o.metaApart = true
	s := mustOpen(t, o)
	g, err := s.NewIngest()
	require.NoError(t, err)
	require.NoError(t, g.Set([]byte("k"), nil))
	require.NoError(t, g.cut(nil))
	require.NoError(t, s.db.Ingest(ctx(), g.names))
	require.NoError(t, g.Abort())
	require.NoError(t, s.Close())
	_, err = Open(o)
	require.ErrorContains(t, err, "without a meta row")
	require.True(t, errors.As(err, &corrupt), fmt.Sprint(err))
}
