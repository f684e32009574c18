package command

import (
	"bytes"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// sortKeys finds the keys of SORT: the sorted one, and what STORE names. Those of BY and GET depend on the data.
func sortKeys(args [][]byte) []int {
	keys := []int{1}
	for i := 2; i < len(args); i++ {
		switch {
		case equalFold(args[i], "limit"):
			i += 2
		case equalFold(args[i], "get"), equalFold(args[i], "by"):
			i++
		case equalFold(args[i], "store") && i+1 < len(args):
			i++
			if len(keys) == 2 {
				keys = keys[:1]
			}
			keys = append(keys, i)
		}
	}
	return keys
}

func cmdSort(c *Ctx)   { c.sort(false) }
func cmdSortRO(c *Ctx) { c.sort(true) }

// sortItem is one element with what it is sorted by.
type sortItem struct {
	value []byte
	score float64
	by    []byte // with ALPHA and BY; nil: no such key
}

type sortOptions struct {
	desc, alpha, noSort bool
	offset, count       int64
	by                  []byte
	gets                [][]byte
	store               []byte
}

func (c *Ctx) parseSort(readonly bool) (s sortOptions, ok bool) {
	s.count = -1
	for i := 2; i < len(c.Args); i++ {
		left := len(c.Args) - i - 1
		switch opt := c.Args[i]; {
		case equalFold(opt, "asc"):
			s.desc = false
		case equalFold(opt, "desc"):
			s.desc = true
		case equalFold(opt, "alpha"):
			s.alpha = true
		case equalFold(opt, "limit") && left >= 2:
			if s.offset, ok = c.ParseInt(c.Args[i+1]); !ok {
				return s, false
			}
			if s.count, ok = c.ParseInt(c.Args[i+2]); !ok {
				return s, false
			}
			i += 2
		case equalFold(opt, "store") && left >= 1 && !readonly:
			i++
			s.store = c.Args[i]
		case equalFold(opt, "by") && left >= 1:
			i++
			s.by = c.Args[i]
			s.noSort = bytes.IndexByte(s.by, '*') < 0
		case equalFold(opt, "get") && left >= 1:
			i++
			s.gets = append(s.gets, c.Args[i])
		default:
			c.W.Error(reply.Syntax)
			return s, false
		}
	}
	return s, true
}

func (c *Ctx) sort(readonly bool) {
	s, ok := c.parseSort(readonly)
	if !ok {
		return
	}
	c.counting = true
	o := c.Lookup(c.Args[1])
	if o != nil && o.Type() != keyspace.TypeList && o.Type() != keyspace.TypeSet && o.Type() != keyspace.TypeZSet {
		c.W.Error(reply.WrongType)
		return
	}
	if s.noSort && o != nil && o.Type() == keyspace.TypeSet && s.store != nil {
		// An order that is not defined must not be stored: sort after all, as Redis does.
		s.noSort, s.alpha, s.by = false, true, nil
	}
	items := sortItems(o, s.noSort && s.desc)
	if !s.noSort && !c.sortBy(items, &s) {
		return
	}
	start, end := sortWindow(&s, len(items))
	items = items[start:end]

	if s.store == nil {
		if len(s.gets) == 0 {
			c.W.Array(len(items))
		} else {
			c.W.Array(len(items) * len(s.gets))
		}
		c.sortOutput(items, &s, func(v []byte) {
			if v == nil {
				c.W.Null()
			} else {
				c.W.Bulk(v)
			}
		})
		return
	}
	l := keyspace.NewList(c.KS.Limits())
	effect := [][]byte{[]byte("RPUSH"), s.store}
	c.sortOutput(items, &s, func(v []byte) {
		if v == nil {
			v = []byte{}
		}
		l.PushRight(v)
		effect = append(effect, v)
	})
	// The effect is the result: the look-ups and the order of a set are not for a replica to find again (D1).
	n := l.Len()
	c.counting = false
	old := c.DB.Get(s.store)
	switch {
	case n > 0:
		old = c.Lookup(s.store) // one that has expired is gone before
		if old != nil {
			c.Effect(verbDel, s.store)
		}
		c.DB.Put(s.store, l)
		c.Notify(EventList, "sortstore", s.store)
		c.Effect(effect...)
	case old != nil:
		c.deleteObject(old)
		c.Effect(verbDel, s.store)
	}
	c.W.Int(int64(n))
}

// sortItems lists the elements; reverse walks a list or sorted set from its end, for BY nosort DESC.
func sortItems(o *keyspace.Object, reverse bool) (items []sortItem) {
	if o == nil {
		return nil
	}
	add := func(v []byte) { items = append(items, sortItem{value: bytes.Clone(v)}) }
	switch o.Type() {
	case keyspace.TypeList:
		for v := range o.List().All() {
			add(v)
		}
	case keyspace.TypeSet:
		for v := range o.Set().All() {
			add(v)
		}
		return items
	case keyspace.TypeZSet:
		for v := range o.ZSet().All() {
			add(v)
		}
	}
	if reverse {
		slices.Reverse(items)
	}
	return items
}

func sortWindow(s *sortOptions, n int) (start, end int) {
	lo := min(max(s.offset, 0), int64(n))
	hi := int64(n)
	if s.count >= 0 {
		hi = lo + min(s.count, int64(n)-lo)
	}
	return int(lo), int(hi)
}

// sortBy brings items into order. It replies and returns false if a score is not a number.
func (c *Ctx) sortBy(items []sortItem, s *sortOptions) bool {
	for i := range items {
		it := &items[i]
		v := it.value
		if s.by != nil {
			v = c.sortLookup(s.by, it.value)
			it.by = v
			if v == nil {
				continue
			}
		}
		if !s.alpha {
			f, ok := sortScore(v)
			if !ok {
				c.W.Error(reply.SortScoreNotDouble)
				return false
			}
			it.score = f
		}
	}
	slices.SortStableFunc(items, func(a, b sortItem) int {
		var cmp int
		switch {
		case !s.alpha:
			switch {
			case a.score < b.score:
				cmp = -1
			case a.score > b.score:
				cmp = 1
			default:
				cmp = bytes.Compare(a.value, b.value)
			}
		case s.by == nil:
			cmp = bytes.Compare(a.value, b.value)
		case a.by == nil && b.by == nil:
			cmp = 0
		case a.by == nil:
			cmp = -1
		case b.by == nil:
			cmp = 1
		default:
			cmp = bytes.Compare(a.by, b.by)
		}
		if s.desc {
			return -cmp
		}
		return cmp
	})
	return true
}

// smallestNormal is the smallest double with all of its digits, 2^-1022.
const smallestNormal = 0x1p-1022

// sortScore parses a number as strtod does for SORT: the empty string is 0, spaces may lead, a zero byte ends it. Numbers
// that a double holds with fewer digits only, or as 0, are refused like those that are too large.
func sortScore(v []byte) (float64, bool) {
	if i := bytes.IndexByte(v, 0); i >= 0 {
		v = v[:i] // where C's string ends
	}
	if len(v) == 0 {
		return 0, true
	}
	t := strings.TrimLeft(string(v), " \t\r\n\v\f")
	f, ok := ParseFloat([]byte(t))
	if f == 0 && !zeroMantissa(v) || f != 0 && math.Abs(f) < smallestNormal {
		return 0, false
	}
	return f, ok && !math.IsNaN(f)
}

// sortLookup substitutes element for the star in pattern and returns what stands there: a string key, or the field behind
// "->" of a hash. "#" is the element itself. nil: nothing.
func (c *Ctx) sortLookup(pattern, element []byte) []byte {
	if len(pattern) == 1 && pattern[0] == '#' {
		return element
	}
	star := bytes.IndexByte(pattern, '*')
	if star < 0 {
		return nil
	}
	key, field := pattern, []byte(nil)
	if i := bytes.Index(pattern[star+1:], []byte("->")); i >= 0 && star+1+i+2 < len(pattern) {
		key, field = pattern[:star+1+i], pattern[star+1+i+2:]
	}
	name := slices.Concat(key[:star], element, key[star+1:])
	o := c.Lookup(name)
	switch {
	case o == nil:
		return nil
	case field != nil && o.Type() == keyspace.TypeHash:
		if v, ok := o.Hash().Get(field); ok && !c.fieldGone(o.Hash(), field) {
			return bytes.Clone(v)
		}
	case field == nil && o.Type() == keyspace.TypeString:
		return bytes.Clone(o.String())
	}
	return nil
}

// sortOutput calls out for each value of the reply.
func (c *Ctx) sortOutput(items []sortItem, s *sortOptions, out func(v []byte)) {
	for _, it := range items {
		if len(s.gets) == 0 {
			out(it.value)
		}
		for _, g := range s.gets {
			out(c.sortLookup(g, it.value))
		}
	}
}
