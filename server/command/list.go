package command

import (
	"math"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// lookupList returns the list of key; nil with ok if there is none, ok=false if WRONGTYPE was replied.
func (c *Ctx) lookupList(key []byte) (l *keyspace.List, o *keyspace.Object, ok bool) {
	if o, ok = c.LookupType(key, keyspace.TypeList); o == nil {
		return nil, nil, ok
	}
	return o.List(), o, true
}

func cmdLPush(c *Ctx)  { c.push(true, false) }
func cmdRPush(c *Ctx)  { c.push(false, false) }
func cmdLPushX(c *Ctx) { c.push(true, true) }
func cmdRPushX(c *Ctx) { c.push(false, true) }

func (c *Ctx) push(left, mustExist bool) {
	l, o, ok := c.lookupList(c.Args[1])
	switch {
	case !ok:
		return
	case l != nil:
		c.DB.Touch(o)
	case mustExist:
		c.W.Int(0)
		return
	default:
		l = keyspace.NewList(c.KS.Limits())
		c.DB.Put(c.Args[1], l)
	}
	for _, v := range c.Args[2:] {
		pushTo(l, v, left)
	}
	c.Notify(EventList, pushEvent(left), c.Args[1])
	c.Changed()
	c.W.Int(int64(l.Len()))
}

func pushTo(l *keyspace.List, v []byte, left bool) {
	if left {
		l.PushLeft(v)
	} else {
		l.PushRight(v)
	}
}

// pushEvent and popEvent name what is told of a push and of a pop.
func pushEvent(left bool) string {
	if left {
		return "lpush"
	}
	return "rpush"
}

func popEvent(left bool) string {
	if left {
		return "lpop"
	}
	return "rpop"
}

func popFrom(l *keyspace.List, left bool) []byte {
	if left {
		return l.PopLeft()
	}
	return l.PopRight()
}

func cmdLPop(c *Ctx) { c.pop(true) }
func cmdRPop(c *Ctx) { c.pop(false) }

func (c *Ctx) pop(left bool) {
	if len(c.Args) > 3 {
		c.wrongArity()
		return
	}
	counted := len(c.Args) == 3
	count := int64(1)
	if counted {
		var ok bool
		if count, ok = c.parsePositive(c.Args[2]); !ok {
			return
		}
	}
	l, o, ok := c.lookupList(c.Args[1])
	switch {
	case !ok:
	case l == nil && counted:
		c.W.NullArray()
	case l == nil:
		c.W.Null()
	case !counted:
		c.DB.Touch(o)
		c.W.Bulk(popFrom(l, left))
		c.Notify(EventList, popEvent(left), c.Args[1])
		c.DeleteIfEmpty(o)
		c.Changed()
	case count == 0:
		c.W.Array(0)
	default:
		c.replyPopped(c.Args[1], o, left, count)
		c.Changed()
	}
}

// replyPopped removes up to count > 0 elements of the list at key and replies with them. It returns how many there were.
func (c *Ctx) replyPopped(key []byte, o *keyspace.Object, left bool, count int64) int {
	l := o.List()
	n := int(min(count, int64(l.Len())))
	c.W.Array(n)
	at := 0
	if left {
		for v := range l.Range(0, n-1) {
			c.W.Bulk(v)
		}
	} else {
		at = l.Len() - n
		for v := range l.RangeRev(l.Len()-1, at) {
			c.W.Bulk(v)
		}
	}
	c.Notify(EventList, popEvent(left), key)
	if n == l.Len() {
		c.deleteObject(o)
	} else {
		c.DB.Touch(o)
		l.RemoveRange(at, n)
	}
	return n
}

func cmdLLen(c *Ctx) {
	l, _, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if l != nil {
		n = l.Len()
	}
	c.W.Int(int64(n))
}

// listIndex turns a Redis index into one of ours; false if there is no such element.
func listIndex(i int64, n int) (int, bool) {
	if i < 0 {
		i += int64(n)
	}
	return int(i), i >= 0 && i < int64(n)
}

func cmdLIndex(c *Ctx) {
	l, _, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if l == nil {
		c.W.Null()
		return
	}
	index, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	if i, ok := listIndex(index, l.Len()); ok {
		v, _ := l.At(i)
		c.W.Bulk(v)
		return
	}
	c.W.Null()
}

func cmdLSet(c *Ctx) {
	l, o, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if l == nil {
		c.W.Error(reply.NoSuchKey)
		return
	}
	index, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	i, ok := listIndex(index, l.Len())
	if !ok {
		c.W.Error(reply.OutOfRange)
		return
	}
	c.DB.Touch(o)
	l.SetAt(i, c.Args[3])
	c.Notify(EventList, "lset", c.Args[1])
	c.Changed()
	c.W.OK()
}

func cmdLInsert(c *Ctx) {
	after := equalFold(c.Args[2], "after")
	if !after && !equalFold(c.Args[2], "before") {
		c.W.Error(reply.Syntax)
		return
	}
	l, o, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if l == nil {
		c.W.Int(0)
		return
	}
	at, found := 0, false
	for v := range l.Range(0, l.Len()-1) {
		if found = string(v) == string(c.Args[3]); found {
			break
		}
		at++
	}
	if !found {
		c.W.Int(-1)
		return
	}
	if after {
		at++
	}
	c.DB.Touch(o)
	l.InsertAt(at, c.Args[4])
	c.Notify(EventList, "linsert", c.Args[1])
	c.Changed()
	c.W.Int(int64(l.Len()))
}

// parseSpan parses the two indexes of a range.
func (c *Ctx) parseSpan(from, to []byte) (start, stop int64, ok bool) {
	if start, ok = c.ParseInt(from); !ok {
		return 0, 0, false
	}
	stop, ok = c.ParseInt(to)
	return start, stop, ok
}

func cmdLRange(c *Ctx) {
	start, stop, ok := c.parseSpan(c.Args[2], c.Args[3])
	if !ok {
		return
	}
	l, _, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if l == nil {
		c.W.Array(0)
		return
	}
	from, to := clampRange(start, stop, l.Len())
	c.W.Array(to - from + 1)
	for v := range l.Range(from, to) {
		c.W.Bulk(v)
	}
}

func cmdLTrim(c *Ctx) {
	start, stop, ok := c.parseSpan(c.Args[2], c.Args[3])
	if !ok {
		return
	}
	l, o, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if l != nil {
		c.Notify(EventList, "ltrim", c.Args[1]) // also where nothing is cut off
		from, to := clampRange(start, stop, l.Len())
		switch to - from + 1 {
		case 0:
			c.deleteObject(o)
			c.Changed()
		case l.Len():
		default:
			c.DB.Touch(o)
			l.RemoveRange(to+1, l.Len()-to-1)
			l.RemoveRange(0, from)
			c.Changed()
		}
	}
	c.W.OK()
}

func cmdLRem(c *Ctx) {
	count, ok := c.ParseInt(c.Args[2])
	if !ok {
		return
	}
	l, o, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	removed := 0
	if l != nil {
		removed = c.removeEqual(l, o, c.Args[3], count)
	}
	if removed > 0 {
		c.Notify(EventList, "lrem", c.Args[1])
		c.DeleteIfEmpty(o)
		c.Changed()
	}
	c.W.Int(int64(removed))
}

// removeEqual removes the first count elements equal to v, the last -count if negative, all if 0. Equal elements are
// found in one pass and removed from the back, neighbours together, so that the indexes of those to come stay good.
func (c *Ctx) removeEqual(l *keyspace.List, o *keyspace.Object, v []byte, count int64) int {
	var hits []int // indexes; descending if count is negative
	if count < 0 {
		i := l.Len() - 1
		for e := range l.RangeRev(i, 0) {
			if string(e) == string(v) {
				hits = append(hits, i)
				// Not -count: the smallest integer has no negative.
				if -int64(len(hits)) == count {
					break
				}
			}
			i--
		}
	} else {
		i := 0
		for e := range l.Range(0, l.Len()-1) {
			if string(e) == string(v) {
				hits = append(hits, i)
				if int64(len(hits)) == count {
					break
				}
			}
			i++
		}
		for a, b := 0, len(hits)-1; a < b; a, b = a+1, b-1 {
			hits[a], hits[b] = hits[b], hits[a]
		}
	}
	if len(hits) == 0 {
		return 0
	}
	c.DB.Touch(o)
	for i := 0; i < len(hits); {
		j := i + 1
		for j < len(hits) && hits[j] == hits[j-1]-1 {
			j++
		}
		l.RemoveRange(hits[j-1], j-i)
		i = j
	}
	return len(hits)
}

// lposOptions are the options of LPOS.
type lposOptions struct {
	rank, maxlen int64
	count        int64 // -1: one position is asked for, not an array; 0: all
}

func (c *Ctx) parseLPos() (p lposOptions, ok bool) {
	p = lposOptions{rank: 1, count: -1}
	for i := 3; i < len(c.Args); i += 2 {
		if i+1 == len(c.Args) {
			c.W.Error(reply.Syntax)
			return p, false
		}
		v := c.Args[i+1]
		switch opt := c.Args[i]; {
		case equalFold(opt, "rank"):
			if p.rank, ok = c.ParseInt(v); ok && p.rank == 0 {
				c.W.Error(reply.ListRankZero)
				ok = false
			}
		case equalFold(opt, "count"):
			p.count, ok = c.parseWithin(v, 0, math.MaxInt64, reply.ListCountNegative)
		case equalFold(opt, "maxlen"):
			p.maxlen, ok = c.parseWithin(v, 0, math.MaxInt64, reply.ListMaxLenNegative)
		default:
			c.W.Error(reply.Syntax)
			ok = false
		}
		if !ok {
			return p, false
		}
	}
	return p, true
}

func cmdLPos(c *Ctx) {
	p, ok := c.parseLPos()
	if !ok {
		return
	}
	l, _, ok := c.lookupList(c.Args[1])
	if !ok {
		return
	}
	if p.count < 0 {
		found := int64(-1)
		if l != nil {
			p.count = 1
			p.each(l, c.Args[2], func(i int64) { found = i })
		}
		if found < 0 {
			c.W.Null()
		} else {
			c.W.Int(found)
		}
		return
	}
	d := c.W.DeferArray()
	n := 0
	if l != nil {
		p.each(l, c.Args[2], func(i int64) {
			c.W.Int(i)
			n++
		})
	}
	c.W.Patch(d, n)
}

// each calls fn with the positions that p asks for.
func (p *lposOptions) each(l *keyspace.List, v []byte, fn func(i int64)) {
	seq, i, step, skip := l.Range(0, l.Len()-1), int64(0), int64(1), p.rank-1
	if p.rank < 0 {
		seq, i, step, skip = l.RangeRev(l.Len()-1, 0), int64(l.Len()-1), -1, -(p.rank + 1)
	}
	if p.rank == math.MinInt64 {
		skip = 0 // it has no negative, and Redis 7.0 then starts at the last match
	}
	left, found := p.maxlen, int64(0)
	for e := range seq {
		if string(e) == string(v) {
			if skip > 0 {
				skip--
			} else {
				fn(i)
				if found++; found == p.count {
					return
				}
			}
		}
		i += step
		if left--; left == 0 {
			return
		}
	}
}
