package command

import (
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// lookupZSet returns the sorted set of key; nil with ok if there is none, ok=false if WRONGTYPE was replied.
func (c *Ctx) lookupZSet(key []byte) (z *keyspace.ZSet, o *keyspace.Object, ok bool) {
	if o, ok = c.LookupType(key, keyspace.TypeZSet); o == nil {
		return nil, nil, ok
	}
	return o.ZSet(), o, true
}

// zaddMode holds the options of ZADD.
type zaddMode struct{ nx, xx, gt, lt, ch, incr bool }

// parseZAdd reads the options and returns the index of the first score.
func (c *Ctx) parseZAdd() (m zaddMode, at int, ok bool) {
	at = 2
options:
	for ; at < len(c.Args); at++ {
		switch opt := c.Args[at]; {
		case equalFold(opt, "nx"):
			m.nx = true
		case equalFold(opt, "xx"):
			m.xx = true
		case equalFold(opt, "gt"):
			m.gt = true
		case equalFold(opt, "lt"):
			m.lt = true
		case equalFold(opt, "ch"):
			m.ch = true
		case equalFold(opt, "incr"):
			m.incr = true
		default:
			break options
		}
	}
	pairs := len(c.Args) - at
	switch {
	case pairs == 0 || pairs%2 == 1:
		c.W.Error(reply.Syntax)
	case m.nx && m.xx:
		c.W.Error(reply.ZAddXXAndNX)
	case m.gt && m.nx || m.lt && m.nx || m.gt && m.lt:
		c.W.Error(reply.ZAddGTLTNX)
	case m.incr && pairs > 2:
		c.W.Error(reply.ZAddIncrPairs)
	default:
		return m, at, true
	}
	return m, at, false
}

func cmdZAdd(c *Ctx) {
	if mode, at, ok := c.parseZAdd(); ok {
		c.zadd(mode, at)
	}
}

func cmdZIncrBy(c *Ctx) {
	// Redis reads ZADD's options here, too, and then lacks a score.
	for _, opt := range []string{"nx", "xx", "ch", "incr", "gt", "lt"} {
		if equalFold(c.Args[2], opt) {
			c.W.Error(reply.Syntax)
			return
		}
	}
	c.zadd(zaddMode{incr: true}, 2)
}

// zadd adds the pairs of score and member from Args[at] on.
func (c *Ctx) zadd(mode zaddMode, at int) {
	// All scores are parsed before the first change (A2): few fit on the stack.
	var few [16]float64
	scores := few[:0]
	for i := at; i < len(c.Args); i += 2 {
		s, ok := c.ParseFloat(c.Args[i])
		if !ok {
			return
		}
		scores = append(scores, s)
	}
	z, o, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	if z == nil {
		if mode.xx {
			c.replyZAdd(mode, 0, 0, 0, false)
			return
		}
		// Every pair finds nothing to be compared with, so at least one member comes to be.
		z = keyspace.NewZSet(c.KS.Limits())
		c.DB.Put(c.Args[1], z)
	}
	var added, updated int64
	var score float64
	set := false
	for i, s := range scores {
		m := c.Args[at+2*i+1]
		old, exists := z.Score(m)
		score = s
		switch {
		case exists && mode.nx, !exists && mode.xx:
			continue
		case exists && mode.incr:
			if score += old; math.IsNaN(score) {
				c.W.Error(reply.ZScoreNaN) // a single pair: nothing has changed
				return
			}
		}
		if exists && (mode.gt && score <= old || mode.lt && score >= old) {
			continue
		}
		set = true
		if exists && score == old {
			continue
		}
		if o != nil && added+updated == 0 {
			c.DB.Touch(o)
		}
		z.Set(m, storedScore(score))
		if exists {
			updated++
		} else {
			added++
		}
	}
	if added+updated > 0 {
		event := "zadd"
		if mode.incr {
			event = "zincr"
		}
		c.Notify(EventZSet, event, c.Args[1])
		c.Changed()
	}
	c.replyZAdd(mode, added, updated, score, set)
}

// storedScore is the form in which a score is kept: without a negative zero. Redis drops the sign in small sets, where it
// stores an integer, and keeps it in large ones; what is kept here must not depend on the limit between them (D1).
func storedScore(s float64) float64 { return s + 0 }

func (c *Ctx) replyZAdd(mode zaddMode, added, updated int64, score float64, set bool) {
	switch {
	case mode.incr && set:
		c.W.Double(score)
	case mode.incr:
		c.W.Null()
	case mode.ch:
		c.W.Int(added + updated)
	default:
		c.W.Int(added)
	}
}

func cmdZRem(c *Ctx) {
	z, o, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	removed := int64(0)
	if z != nil {
		for _, m := range c.Args[2:] {
			if _, exists := z.Score(m); !exists {
				continue
			}
			if removed == 0 {
				c.DB.Touch(o)
			}
			z.Remove(m)
			removed++
		}
	}
	if removed > 0 {
		c.Notify(EventZSet, "zrem", c.Args[1])
		c.DeleteIfEmpty(o)
		c.Changed()
	}
	c.W.Int(removed)
}

func cmdZScore(c *Ctx) {
	z, _, ok := c.lookupZSet(c.Args[1])
	if ok {
		c.replyScore(z, c.Args[2])
	}
}

func (c *Ctx) replyScore(z *keyspace.ZSet, m []byte) {
	if z != nil {
		if s, exists := z.Score(m); exists {
			c.W.Double(s)
			return
		}
	}
	c.W.Null()
}

func cmdZMScore(c *Ctx) {
	z, _, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, m := range c.Args[2:] {
		c.replyScore(z, m)
	}
}

func cmdZCard(c *Ctx) {
	z, _, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if z != nil {
		n = z.Len()
	}
	c.W.Int(int64(n))
}

func cmdZRank(c *Ctx)    { c.zrank(false) }
func cmdZRevRank(c *Ctx) { c.zrank(true) }

// zrank has WITHSCORE since Redis 7.2.
func (c *Ctx) zrank(rev bool) {
	if len(c.Args) > 4 {
		c.wrongArity()
		return
	}
	withScore := len(c.Args) == 4
	if withScore && !equalFold(c.Args[3], "withscore") {
		c.W.Error(reply.Syntax)
		return
	}
	z, _, ok := c.lookupZSet(c.Args[1])
	if !ok {
		return
	}
	rank, score, exists := 0, 0.0, false
	if z != nil {
		rank, score, exists = z.Rank(c.Args[2])
	}
	switch {
	case !exists && withScore:
		c.W.NullArray()
		return
	case !exists:
		c.W.Null()
		return
	case rev:
		rank = z.Len() - 1 - rank
	}
	if withScore {
		c.W.Array(2)
	}
	c.W.Int(int64(rank))
	if withScore {
		c.W.Double(score)
	}
}

func cmdZRandMember(c *Ctx) {
	single, withScores := len(c.Args) == 2, false
	count := int64(1)
	if !single {
		var ok bool
		if _, ok = c.parseWithin(c.Args[2], -math.MaxInt64, math.MaxInt64, ""); !ok {
			return
		}
		if len(c.Args) > 4 || len(c.Args) == 4 && !equalFold(c.Args[3], "withscores") {
			c.W.Error(reply.Syntax)
			return
		}
		withScores = len(c.Args) == 4
		if count, ok = c.parseRandomCount(c.Args[2], withScores); !ok {
			return
		}
	}
	z, _, ok := c.lookupZSet(c.Args[1])
	switch {
	case !ok:
	case single && z == nil:
		c.W.Null()
	case single:
		m, _ := z.Random(c.Rand)
		c.W.Bulk(m)
	case z == nil || count == 0:
		c.W.Array(0)
	default:
		emit := c.scoredArray(sampleLen(count, z.Len()), withScores)
		p := population[float64]{z.Len(), z.All(), func() ([]byte, float64) { return z.Random(c.Rand) }}
		sample(c.Rand, p, count, emit)
	}
}

// scoredArray starts an array of n members and returns what writes one of them: with scores RESP3 nests each pair, RESP2
// puts them in a row.
func (c *Ctx) scoredArray(n int, withScores bool) (emit func(m []byte, s float64)) {
	switch {
	case !withScores:
		c.W.Array(n)
		return func(m []byte, _ float64) { c.W.Bulk(m) }
	case c.W.Proto() == 3:
		c.W.Array(n)
		return c.nestedPair
	}
	c.W.Array(2 * n)
	return c.flatPair
}

func (c *Ctx) nestedPair(m []byte, s float64) {
	c.W.Array(2)
	c.flatPair(m, s)
}

func (c *Ctx) flatPair(m []byte, s float64) {
	c.W.Bulk(m)
	c.W.Double(s)
}

func cmdZScan(c *Ctx) {
	s, ok := c.beginElementScan(keyspace.TypeZSet)
	if !ok {
		return
	}
	var buf [32]byte
	packed := s.o.ZSet().Encoding() == keyspace.EncListpack
	next := s.o.ZSet().Scan(s.cursor, s.count, func(m []byte, score float64) {
		if s.matches(m) {
			c.W.Bulk(m)
			// A bulk string in RESP3 as well.
			c.W.Bulk(appendScanScore(buf[:0], score, packed))
			s.n += 2
		}
	})
	c.endElementScan(s, next)
}

// maxPackedInt is the largest score that Redis keeps as an integer in a packed sorted set: half of the int64s.
const maxPackedInt = 1 << 62

// appendScanScore appends a score as ZSCAN shows it: an integer of a packed sorted set with all its digits, as the packed
// form holds it, where other commands would give 1e+17.
func appendScanScore(dst []byte, score float64, packed bool) []byte {
	if packed && score == math.Trunc(score) && math.Abs(score) < maxPackedInt {
		return strconv.AppendInt(dst, int64(score), 10)
	}
	return reply.AppendDouble(dst, score)
}
