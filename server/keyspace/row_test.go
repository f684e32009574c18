package keyspace

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// memRows are rows in memory, in order of their keys.
type memRows [][2][]byte

func (m memRows) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(m, key, func(r [2][]byte, key []byte) int { return bytes.Compare(r[0], key) })
}

func (m *memRows) set(key, val []byte) {
	i, ok := m.find(key)
	if ok {
		(*m)[i][1] = val
		return
	}
	*m = slices.Insert(*m, i, [2][]byte{key, val})
}

func (m memRows) Get(key []byte) (val []byte, ok bool, err error) {
	i, ok := m.find(key)
	if !ok {
		return nil, false, nil
	}
	return bytes.Clone(m[i][1]), true, nil
}

func (m memRows) Iter(_, hi []byte) (RowIter, error) { return &memIter{rows: m, hi: hi}, nil }

type memIter struct {
	rows memRows
	hi   []byte
	i    int
}

func (it *memIter) valid() bool {
	return it.i < len(it.rows) && bytes.Compare(it.rows[it.i][0], it.hi) < 0
}

func (it *memIter) SeekGE(key []byte) bool { it.i, _ = it.rows.find(key); return it.valid() }
func (it *memIter) Next() bool             { it.i++; return it.valid() }
func (it *memIter) Key() []byte            { return it.rows[it.i][0] }
func (it *memIter) Value() []byte          { return it.rows[it.i][1] }
func (it *memIter) Err() error             { return nil }
func (it *memIter) Close() error           { return nil }

// elementRows reads element rows from bytes: which of two identities, a sub-key and a value, each with its length before it.
func elementRows(b []byte) (rows memRows) {
	for len(b) >= 3 {
		oid, sub, val := uint64(1+b[0]%2), int(b[1]), int(b[2])
		if b = b[3:]; sub+val > len(b) {
			break
		}
		rows.set(AppendElemKey(nil, 0, oid, b[:sub]), bytes.Clone(b[sub:sub+val]))
		b = b[sub+val:]
	}
	return rows
}

// element is what elementRows reads one row from.
func element(oid byte, sub string, val []byte) []byte {
	return append(append([]byte{oid - 1, byte(len(sub)), byte(len(val))}, sub...), val...)
}

// Whatever a main row and the rows of its elements are, they are refused or are an object; and that has a row, with which it is read
// back the same.
func FuzzRow(f *testing.F) {
	limits := DefaultLimits()
	small := func(typ Type, c collection) []byte {
		o := &Object{key: "k", typ: typ}
		o.setColl(c)
		return appendRow(nil, o)
	}
	h, l, m, z := NewHash(&limits), NewList(&limits), NewSet(&limits), NewZSet(&limits)
	h.Set([]byte("f"), []byte("v"))
	f.Add(small(TypeHash, h), []byte{})
	h.SetExpire([]byte("f"), 1700000000000)
	l.PushRight([]byte("a"))
	m.Add([]byte("12"))
	z.Set([]byte("m"), 1.5)
	for typ, c := range map[Type]collection{TypeHash: h, TypeList: l, TypeSet: m, TypeZSet: z} {
		f.Add(small(typ, c), []byte{})
	}
	f.Add([]byte("\x00"+string(rune(byte(TypeString)<<4|byte(EncRaw)))+"\x00\x05value"), []byte{})
	big := func(typ Type, enc Encoding, flags byte, more ...byte) []byte {
		row := append([]byte{rowBig | flags, byte(typ)<<4 | byte(enc)}, more...)
		return append(binary.BigEndian.AppendUint64(row, 1), 2)
	}
	two := append(element(1, "a", []byte("1")), element(1, "b", []byte("2"))...)
	f.Add(big(TypeHash, EncHashtable, 0), two)
	f.Add(big(TypeSet, EncHashtable, 0), append(element(1, "a", nil), element(1, "b", nil)...))
	score := binary.BigEndian.AppendUint64(nil, 1<<62)
	f.Add(big(TypeZSet, EncSkiplist, 0), append(element(1, "a", score), element(1, "b", score)...))
	l.PushRight([]byte("b"))
	node := string(binary.BigEndian.AppendUint64(nil, l.nodes()[0].id))
	val, _ := l.row(node)
	f.Add(big(TypeList, EncQuicklist, 0), element(1, node, val))
	at := binary.BigEndian.AppendUint64(nil, 1700000000000)
	timed := big(TypeHash, EncHashtable, rowTimed, binary.LittleEndian.AppendUint64(nil, 1700000000000)...)
	f.Add(append(binary.BigEndian.AppendUint64(timed, 2), 1), append(two, element(2, "a", at)...))
	f.Fuzz(func(t *testing.T, row, elements []byte) {
		rows := elementRows(elements)
		o, err := decodeObject(rows, &limits, 0, "k", row)
		if err != nil {
			return
		}
		again := appendRow(nil, o)
		o, err = decodeObject(rows, &limits, 0, "k", again)
		require.NoError(t, err, "%x encodes to %x", row, again)
		require.Equal(t, again, appendRow(nil, o))
	})
}
