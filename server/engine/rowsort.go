package engine

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
)

// Sorting the rows of a run. Where the rows of most keys stand is a matter of their slot and hash, which are spread evenly: a
// row is put next to its place at once, by where its place lies between the least and the greatest, and what lies together there
// is sorted by comparing. This takes a tenth of the time of comparing alone. It happens in place (American flag sort:
// McIlroy, Bostic, McIlroy 1993), for a second array of rows would be memory that a load has no need of.

const (
	// sortLeaf is the number of rows up to which they are compared.
	sortLeaf = 32
	// sortShare is how many rows a bucket is to get, and sortBuckets the most buckets: their counters stay in a processor's
	// cache of its own.
	sortShare   = 8
	sortBuckets = 1 << 15
)

// rowLevels are what rows are sorted by first, one after the other; then by all of the key.
var rowLevels = [...]func(*runRow) uint64{
	func(r *runRow) uint64 { return uint64(r.tag) },
	func(r *runRow) uint64 { return uint64(r.phys) },
	func(r *runRow) uint64 { return r.head },
}

// compareRows is the order of rows whose keys stand in buf: that of the keys.
func compareRows(buf []byte, a, b *runRow) int {
	switch {
	case a.tag != b.tag:
		return int(a.tag) - int(b.tag)
	case a.phys != b.phys:
		return cmp.Compare(a.phys, b.phys)
	case a.head != b.head:
		return cmp.Compare(a.head, b.head)
	}
	return bytes.Compare(buf[a.start:a.key], buf[b.start:b.key]) // far away in memory: last
}

func sortRows(buf []byte, rows []runRow) {
	s := rowSorter{buf}
	s.sort(rows, 0)
}

type rowSorter struct{ buf []byte }

// sort sorts rows, which are equal in all that comes before level.
func (s rowSorter) sort(rows []runRow, level int) {
	for ; level < len(rowLevels) && len(rows) > sortLeaf; level++ {
		key := rowLevels[level]
		least, most := key(&rows[0]), key(&rows[0])
		for i := range rows {
			k := key(&rows[i])
			least, most = min(least, k), max(most, k)
		}
		if least == most {
			continue
		}
		buckets := min(len(rows)/sortShare, sortBuckets)
		shift := max(bits.Len64(most-least)-bits.Len(uint(buckets-1)), 0)
		ends := s.partition(rows, level, least, shift, int((most-least)>>shift)+1)
		next := level
		if shift == 0 {
			next++
		}
		at := uint32(0)
		for _, end := range ends {
			if end-at > 1 {
				s.sort(rows[at:end], next)
			}
			at = end
		}
		return
	}
	s.compare(rows)
}

// partition puts rows into buckets by what level takes of them, less least, in steps of 1<<shift. It returns where each ends.
func (s rowSorter) partition(rows []runRow, level int, least uint64, shift, buckets int) (ends []uint32) {
	key := rowLevels[level]
	ends = make([]uint32, buckets)
	for i := range rows {
		ends[(key(&rows[i])-least)>>shift]++
	}
	free, at := make([]uint32, buckets), uint32(0) // where a bucket's next row goes
	for i, n := range ends {
		free[i] = at
		at += n
		ends[i] = at
	}
	for b := range buckets {
		for free[b] < ends[b] {
			row := &rows[free[b]]
			to := (key(row) - least) >> shift
			if to != uint64(b) {
				other := &rows[free[to]]
				*row, *other = *other, *row
			}
			free[to]++
		}
	}
	return ends
}

// compare sorts rows by comparing them.
func (s rowSorter) compare(rows []runRow) {
	if len(rows) > sortLeaf { // rows of one big collection, which come in order
		order := func(a, b runRow) int { return compareRows(s.buf, &a, &b) }
		if !slices.IsSortedFunc(rows, order) {
			slices.SortFunc(rows, order)
		}
		return
	}
	for i := 1; i < len(rows); i++ {
		if compareRows(s.buf, &rows[i-1], &rows[i]) <= 0 {
			continue
		}
		row, j := rows[i], i
		for ; j > 0 && compareRows(s.buf, &rows[j-1], &row) > 0; j-- {
			rows[j] = rows[j-1]
		}
		rows[j] = row
	}
}
