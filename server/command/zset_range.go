package command

import (
	"errors"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Ranges of sorted sets: by rank, by score, by member. All commands turn what they are given into a span of ranks first,
// in O(log n), and then walk, count or remove that span.

type rangeBy uint8

const (
	byAuto rangeBy = iota // ZRANGE without BYSCORE and BYLEX: byRank
	byRank
	byScore
	byLex
)

// span is a range of ranks, both ends included and ascending; from > to is empty.
type span struct{ from, to int }

var emptySpan = span{0, -1}

func (s span) len() int { return s.to - s.from + 1 }

// zrange is a range that has been parsed but not yet asked of a set.
type zrange struct {
	by          rangeBy
	start, stop int64
	score       keyspace.ScoreRange
	lex         keyspace.LexRange
}

// parseZRange parses the ends of a range, lower end first (for byRank: as given).
func (c *Ctx) parseZRange(by rangeBy, lo, hi []byte) (r zrange, ok bool) {
	r.by = by
	switch by {
	case byScore:
		var okMin, okMax bool
		r.score.Min, r.score.MinEx, okMin = parseScoreEnd(lo)
		r.score.Max, r.score.MaxEx, okMax = parseScoreEnd(hi)
		if !okMin || !okMax {
			c.W.Error(reply.ZMinMaxNotFloat)
			return r, false
		}
	case byLex:
		if !parseLexMin(&r.lex, lo) || !parseLexMax(&r.lex, hi) {
			c.W.Error(reply.ZMinMaxNotLex)
			return r, false
		}
	default:
		r.start, r.stop, ok = c.parseSpan(lo, hi)
		return r, ok
	}
	return r, true
}

// parseScoreEnd parses one end of a score range: a double as C's strtod reads it, after '(' if excluded. That is laxer
// than ParseFloat: leading blanks, overflow to infinity and the empty string (0) pass, as in Redis.
func parseScoreEnd(b []byte) (f float64, ex, ok bool) {
	if len(b) > 0 && b[0] == '(' {
		b, ex = b[1:], true
	}
	if len(b) == 0 {
		return 0, ex, true
	}
	for len(b) > 1 && (b[0] == ' ' || b[0] >= '\t' && b[0] <= '\r') {
		b = b[1:]
	}
	if f, ok = ParseFloat(b); ok {
		return f, ex, true
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, ex, errors.Is(err, strconv.ErrRange) && math.IsInf(f, 0)
}

func parseLexMin(r *keyspace.LexRange, b []byte) bool {
	switch {
	case string(b) == "-":
		r.MinInf = true
	case string(b) == "+":
		r.MinInfPos = true
	case len(b) > 0 && (b[0] == '(' || b[0] == '['):
		r.Min, r.MinEx = b[1:], b[0] == '('
	default:
		return false
	}
	return true
}

func parseLexMax(r *keyspace.LexRange, b []byte) bool {
	switch {
	case string(b) == "+":
		r.MaxInf = true
	case string(b) == "-":
		r.MaxInfNeg = true
	case len(b) > 0 && (b[0] == '(' || b[0] == '['):
		r.Max, r.MaxEx = b[1:], b[0] == '('
	default:
		return false
	}
	return true
}

// in returns the ranks that r covers in z. With rev, ranks given by the client count from the last member.
func (r *zrange) in(z *keyspace.ZSet, rev bool) span {
	s := emptySpan
	switch r.by {
	case byScore:
		if s.from = z.FirstInScore(r.score); s.from >= 0 {
			s.to = s.from + z.CountScore(r.score) - 1
		}
	case byLex:
		if s.from = z.FirstInLex(r.lex); s.from >= 0 {
			s.to = s.from + z.CountLex(r.lex) - 1
		}
	default:
		s.from, s.to = clampRange(r.start, r.stop, z.Len())
		if rev && s.len() > 0 {
			s.from, s.to = z.Len()-1-s.to, z.Len()-1-s.from
		}
		return s
	}
	if s.from < 0 {
		return emptySpan
	}
	return s
}

// limit narrows s as LIMIT does: offset elements are left out at the end where the walk begins, at most count are taken
// (all if negative). A negative offset takes nothing.
func (s span) limit(offset, count int64, rev bool) span {
	n := int64(s.len())
	if offset < 0 || offset >= n {
		return emptySpan
	}
	if n -= offset; count >= 0 && count < n {
		n = count
	}
	if rev {
		to := s.to - int(offset)
		return span{to - int(n) + 1, to}
	}
	from := s.from + int(offset)
	return span{from, from + int(n) - 1}
}

// each walks the members of s.
func (s span) each(z *keyspace.ZSet, rev bool, fn func(m []byte, score float64)) {
	from, to := s.from, s.to
	if rev {
		from, to = z.Len()-1-s.to, z.Len()-1-s.from
	}
	for m, score := range z.Range(from, to, rev) {
		fn(m, score)
	}
}

func cmdZRange(c *Ctx)           { c.zrange(1, byAuto, false, true, false) }
func cmdZRangeStore(c *Ctx)      { c.zrange(2, byAuto, false, true, true) }
func cmdZRevRange(c *Ctx)        { c.zrange(1, byRank, true, false, false) }
func cmdZRangeByScore(c *Ctx)    { c.zrange(1, byScore, false, false, false) }
func cmdZRevRangeByScore(c *Ctx) { c.zrange(1, byScore, true, false, false) }
func cmdZRangeByLex(c *Ctx)      { c.zrange(1, byLex, false, false, false) }
func cmdZRevRangeByLex(c *Ctx)   { c.zrange(1, byLex, true, false, false) }
func cmdZRemRangeByRank(c *Ctx)  { c.zremrange(byRank) }
func cmdZRemRangeByScore(c *Ctx) { c.zremrange(byScore) }
func cmdZRemRangeByLex(c *Ctx)   { c.zremrange(byLex) }
func cmdZCount(c *Ctx)           { c.zcount(byScore) }
func cmdZLexCount(c *Ctx)        { c.zcount(byLex) }

// zrange does ZRANGE and its relatives on the key in Args[at]. revOption tells whether REV may be given; with store the
// result goes to Args[1].
func (c *Ctx) zrange(at int, by rangeBy, rev, revOption, store bool) {
	withScores := false
	offset, count := int64(0), int64(-1)
	for i := at + 3; i < len(c.Args); i++ {
		switch opt, left := c.Args[i], len(c.Args)-i-1; {
		case !store && equalFold(opt, "withscores"):
			withScores = true
		case left >= 2 && equalFold(opt, "limit"):
			var ok bool
			if offset, count, ok = c.parseSpan(c.Args[i+1], c.Args[i+2]); !ok {
				return
			}
			i += 2
		case revOption && !rev && equalFold(opt, "rev"):
			rev = true
		case by == byAuto && equalFold(opt, "bylex"):
			by = byLex
		case by == byAuto && equalFold(opt, "byscore"):
			by = byScore
		default:
			c.W.Error(reply.Syntax)
			return
		}
	}
	if by == byAuto {
		by = byRank
	}
	switch {
	case count != -1 && by == byRank:
		c.W.Error(reply.ZLimitNeedsRange)
		return
	case withScores && by == byLex:
		c.W.Error(reply.ZWithScoresWithByLex)
		return
	}
	lo, hi := c.Args[at+1], c.Args[at+2]
	if rev && by != byRank {
		lo, hi = hi, lo
	}
	r, ok := c.parseZRange(by, lo, hi)
	if !ok {
		return
	}
	c.counting = true
	z, _, ok := c.lookupZSet(c.Args[at])
	c.counting = !store
	if !ok {
		return
	}
	s := emptySpan
	if z != nil {
		if s = r.in(z, rev); by != byRank {
			s = s.limit(offset, count, rev)
		}
	}
	switch {
	case !store && s.len() == 0:
		c.W.Array(0)
	case !store:
		s.each(z, rev, c.scoredArray(s.len(), withScores))
	case s.len() == 0:
		c.storeNothing(c.Args[1])
	default:
		out := keyspace.NewZSet(c.KS.Limits())
		s.each(z, false, func(m []byte, score float64) { out.Set(m, score) })
		c.storeZSet(c.Args[1], out)
	}
}

// storeZSet makes z the value of dst and replies with its size.
func (c *Ctx) storeZSet(dst []byte, z *keyspace.ZSet) {
	c.Lookup(dst) // one that has expired is gone before
	c.DB.Put(dst, z)
	c.Notify(EventZSet, c.Spec.Name, dst)
	c.Changed()
	c.W.Int(int64(z.Len()))
}

func (c *Ctx) zcount(by rangeBy) {
	r, ok := c.parseZRange(by, c.Args[2], c.Args[3])
	if !ok {
		return
	}
	z, _, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		n = r.in(z, false).len()
	}
	c.W.Int(int64(n))
}

func (c *Ctx) zremrange(by rangeBy) {
	r, ok := c.parseZRange(by, c.Args[2], c.Args[3])
	if !ok {
		return
	}
	z, o, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		s := r.in(z, false)
		if n = s.len(); n > 0 {
			c.Notify(EventZSet, c.Spec.Name, c.Args[1])
		}
		c.removeSpan(z, o, s)
	}
	if n > 0 {
		c.Changed()
	}
	c.W.Int(int64(n))
}

// removeSpan removes the members of s, and the key if none is left.
func (c *Ctx) removeSpan(z *keyspace.ZSet, o *keyspace.Object, s span) {
	switch n := s.len(); n {
	case 0:
	case z.Len():
		c.deleteObject(o)
	default:
		c.DB.Touch(o)
		for range n {
			m, _ := z.At(s.from)
			z.Remove(m)
		}
	}
}
