package command

import (
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// ZUNION, ZINTER, ZDIFF, their STORE forms and ZINTERCARD. Their sources may be plain sets, whose members all score 1.

type zop uint8

const (
	zopUnion zop = iota
	zopInter
	zopDiff
)

type aggregate uint8

const (
	aggregateSum aggregate = iota
	aggregateMin
	aggregateMax
)

func (a aggregate) apply(x, y float64) float64 {
	switch a {
	case aggregateMin:
		if y < x {
			return y
		}
		return x
	case aggregateMax:
		if y > x {
			return y
		}
		return x
	}
	if s := x + y; !math.IsNaN(s) {
		return s
	}
	return 0 // inf - inf, by Redis's rule
}

// zsource is one source: a sorted set, a set, or neither.
type zsource struct {
	z      *keyspace.ZSet
	s      *keyspace.Set
	weight float64
}

func (src *zsource) len() int {
	switch {
	case src.z != nil:
		return src.z.Len()
	case src.s != nil:
		return src.s.Len()
	}
	return 0
}

// score returns the weighted score of m.
func (src *zsource) score(m []byte) (float64, bool) {
	switch {
	case src.z != nil:
		s, ok := src.z.Score(m)
		return src.weighted(s), ok
	case src.s != nil:
		return src.weighted(1), src.s.Has(m)
	}
	return 0, false
}

func (src *zsource) weighted(s float64) float64 {
	if s *= src.weight; !math.IsNaN(s) {
		return s
	}
	return 0 // 0 * inf, by Redis's rule
}

// all yields the members with weighted scores.
func (src *zsource) all(yield func(m []byte, s float64) bool) {
	switch {
	case src.z != nil:
		for m, s := range src.z.All() {
			if !yield(m, src.weighted(s)) {
				return
			}
		}
	case src.s != nil:
		for m := range src.s.All() {
			if !yield(m, src.weighted(1)) {
				return
			}
		}
	}
}

// zalgebra is a parsed command of this family.
type zalgebra struct {
	op         zop
	sources    []zsource
	agg        aggregate
	withScores bool
	store      bool
	limit      int64 // ZINTERCARD; 0 = none
}

type zform uint8

const (
	zformReply zform = iota
	zformStore
	zformCard
)

// parseZAlgebra parses the command whose number of keys stands in Args[at]. As in Redis, a key of the wrong type comes
// before an option that is wrong.
func (c *Ctx) parseZAlgebra(at int, op zop, form zform) (a zalgebra, ok bool) {
	a.op, a.store = op, form == zformStore
	n, ok := c.ParseInt(c.Args[at])
	if !ok {
		return a, false
	}
	if n < 1 {
		c.W.Error(fmt.Sprintf(reply.ZNoInputKeyF, c.Spec.FullName))
		return a, false
	}
	if n > int64(len(c.Args)-at-1) {
		c.W.Error(reply.Syntax)
		return a, false
	}
	a.sources = make([]zsource, n)
	for i := range a.sources {
		src := &a.sources[i]
		src.weight = 1
		c.counting = true
		o := c.Lookup(c.Args[at+1+i])
		c.counting = !a.store
		switch {
		case o == nil:
		case o.Type() == keyspace.TypeZSet:
			src.z = o.ZSet()
		case o.Type() == keyspace.TypeSet:
			src.s = o.Set()
		default:
			c.W.Error(reply.WrongType)
			return a, false
		}
	}
	combines := op != zopDiff && form != zformCard
	for i := at + 1 + int(n); i < len(c.Args); i++ {
		switch opt, left := c.Args[i], len(c.Args)-i-1; {
		case combines && left >= int(n) && equalFold(opt, "weights"):
			for j := range a.sources {
				i++
				if a.sources[j].weight, ok = ParseFloat(c.Args[i]); !ok {
					c.W.Error(reply.ZWeightNotFloat)
					return a, false
				}
			}
		case combines && left >= 1 && equalFold(opt, "aggregate"):
			i++
			switch {
			case equalFold(c.Args[i], "sum"):
				a.agg = aggregateSum
			case equalFold(c.Args[i], "min"):
				a.agg = aggregateMin
			case equalFold(c.Args[i], "max"):
				a.agg = aggregateMax
			default:
				c.W.Error(reply.Syntax)
				return a, false
			}
		case form == zformReply && equalFold(opt, "withscores"):
			a.withScores = true
		case form == zformCard && left >= 1 && equalFold(opt, "limit"):
			i++
			if a.limit, ok = c.parseWithin(c.Args[i], 0, math.MaxInt64, reply.LimitNegative); !ok {
				return a, false
			}
		default:
			c.W.Error(reply.Syntax)
			return a, false
		}
	}
	return a, true
}

// sortBySize puts smaller sources first. Floating point sums depend on the order, so it is Redis's.
func (a *zalgebra) sortBySize() {
	slices.SortStableFunc(a.sources, func(x, y zsource) int { return x.len() - y.len() })
}

// intersection yields the common members: it walks the smallest source and asks the others.
func (a *zalgebra) intersection(yield func(m []byte, s float64) bool) {
	a.sortBySize()
next:
	for m, s := range a.sources[0].all {
		for i := range a.sources[1:] {
			other, ok := a.sources[1+i].score(m)
			if !ok {
				continue next
			}
			s = a.agg.apply(s, other)
		}
		if !yield(m, s) {
			return
		}
	}
}

// kept is storedScore for what is stored. A reply shows the sign of zero, as Redis's does.
func (a *zalgebra) kept(s float64) float64 {
	if a.store {
		return storedScore(s)
	}
	return s
}

// result computes the combination.
func (a *zalgebra) result(limits *keyspace.Limits) *keyspace.ZSet {
	out := keyspace.NewZSet(limits)
	switch a.op {
	case zopUnion:
		a.sortBySize()
		for i := range a.sources {
			for m, s := range a.sources[i].all {
				if old, ok := out.Score(m); ok {
					s = a.agg.apply(old, s)
				}
				out.Set(m, a.kept(s))
			}
		}
	case zopInter:
		for m, s := range a.intersection {
			out.Set(m, a.kept(s))
		}
	case zopDiff:
		a.difference(limits, out)
	}
	return out
}

// difference leaves out of the first source what any other has. Where the others are many and small, their union is made
// first, so that one question for each member is enough.
func (a *zalgebra) difference(limits *keyspace.Limits, out *keyspace.ZSet) {
	first, others := a.sources[0], a.sources[1:]
	total := 0
	for i := range others {
		total += others[i].len()
	}
	if len(others) > 1 && first.len()*(len(others)-1) > total*unionCost {
		u := keyspace.NewSet(limits)
		for i := range others {
			for m := range others[i].all {
				u.Add(m)
			}
		}
		others = []zsource{{s: u, weight: 1}}
	}
next:
	for m, s := range first.all {
		for i := range others {
			if _, ok := others[i].score(m); ok {
				continue next
			}
		}
		out.Set(m, a.kept(s))
	}
}

func cmdZUnion(c *Ctx)      { c.replyZAlgebra(zopUnion) }
func cmdZInter(c *Ctx)      { c.replyZAlgebra(zopInter) }
func cmdZDiff(c *Ctx)       { c.replyZAlgebra(zopDiff) }
func cmdZUnionStore(c *Ctx) { c.storeZAlgebra(zopUnion) }
func cmdZInterStore(c *Ctx) { c.storeZAlgebra(zopInter) }
func cmdZDiffStore(c *Ctx)  { c.storeZAlgebra(zopDiff) }

func (c *Ctx) replyZAlgebra(op zop) {
	a, ok := c.parseZAlgebra(1, op, zformReply)
	if !ok {
		return
	}
	z := a.result(c.KS.Limits())
	span{0, z.Len() - 1}.each(z, false, c.scoredArray(z.Len(), a.withScores))
}

func (c *Ctx) storeZAlgebra(op zop) {
	a, ok := c.parseZAlgebra(2, op, zformStore)
	if !ok {
		return
	}
	z := a.result(c.KS.Limits())
	if z.Len() == 0 {
		c.storeNothing(c.Args[1])
		return
	}
	c.storeZSet(c.Args[1], z)
}

func cmdZInterCard(c *Ctx) {
	a, ok := c.parseZAlgebra(1, zopInter, zformCard)
	if !ok {
		return
	}
	n := int64(0)
	for range a.intersection {
		if n++; n == a.limit {
			break
		}
	}
	c.W.Int(n)
}
