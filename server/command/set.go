package command

import (
	"iter"
	"math"
	"slices"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

var verbSRem = []byte("SREM")

// lookupSet returns the set of key; nil with ok if there is none, ok=false if WRONGTYPE was replied.
func (c *Ctx) lookupSet(key []byte) (s *keyspace.Set, o *keyspace.Object, ok bool) {
	if o, ok = c.LookupType(key, keyspace.TypeSet); o == nil {
		return nil, nil, ok
	}
	return o.Set(), o, true
}

func cmdSAdd(c *Ctx) {
	s, o, ok := c.lookupSet(c.Args[1])
	if !ok {
		return
	}
	if s == nil {
		s = keyspace.NewSet(c.KS.Limits())
		c.DB.Put(c.Args[1], s)
	}
	added := int64(0)
	for _, m := range c.Args[2:] {
		// An existing member must not touch the key: a WATCH on it stays good.
		if s.Has(m) {
			continue
		}
		if added == 0 && o != nil {
			c.DB.Touch(o)
		}
		s.Add(m)
		added++
	}
	if added > 0 {
		c.Notify(EventSet, "sadd", c.Args[1])
		c.Changed()
	}
	c.W.Int(added)
}

func cmdSRem(c *Ctx) {
	s, o, ok := c.lookupSet(c.Args[1])
	if !ok {
		return
	}
	removed := int64(0)
	if s != nil {
		for _, m := range c.Args[2:] {
			if !s.Has(m) {
				continue
			}
			if removed == 0 {
				c.DB.Touch(o)
			}
			s.Remove(m)
			removed++
		}
	}
	if removed > 0 {
		c.Notify(EventSet, "srem", c.Args[1])
		c.DeleteIfEmpty(o)
		c.Changed()
	}
	c.W.Int(removed)
}

func cmdSMove(c *Ctx) {
	m := c.Args[3]
	src := c.Lookup(c.Args[1])
	if src == nil {
		c.W.Int(0)
		return
	}
	dst := c.Lookup(c.Args[2])
	if src.Type() != keyspace.TypeSet || dst != nil && dst.Type() != keyspace.TypeSet {
		c.W.Error(reply.WrongType)
		return
	}
	if src == dst || !src.Set().Has(m) {
		c.replyFlag(src.Set().Has(m))
		return
	}
	c.DB.Touch(src)
	src.Set().Remove(m)
	c.Notify(EventSet, "srem", c.Args[1])
	c.DeleteIfEmpty(src)
	if dst == nil {
		dst = c.DB.Put(c.Args[2], keyspace.NewSet(c.KS.Limits()))
	}
	if !dst.Set().Has(m) {
		c.DB.Touch(dst)
		dst.Set().Add(m)
		c.Notify(EventSet, "sadd", c.Args[2])
	}
	c.Changed()
	c.W.Int(1)
}

func cmdSIsMember(c *Ctx) {
	s, _, ok := c.lookupSet(c.Args[1])
	if ok {
		c.replyFlag(s != nil && s.Has(c.Args[2]))
	}
}

func cmdSMIsMember(c *Ctx) {
	s, _, ok := c.lookupSet(c.Args[1])
	if !ok {
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, m := range c.Args[2:] {
		c.replyFlag(s != nil && s.Has(m))
	}
}

func cmdSCard(c *Ctx) {
	s, _, ok := c.lookupSet(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if s != nil {
		n = s.Len()
	}
	c.W.Int(int64(n))
}

func cmdSMembers(c *Ctx) {
	s, _, ok := c.lookupSet(c.Args[1])
	if ok {
		c.replyMembers(s)
	}
}

func (c *Ctx) replyMembers(s *keyspace.Set) {
	if s == nil {
		c.W.Set(0)
		return
	}
	c.W.Set(s.Len())
	for m := range s.All() {
		c.W.Bulk(m)
	}
}

func cmdSRandMember(c *Ctx) {
	if len(c.Args) > 3 {
		c.W.Error(reply.Syntax)
		return
	}
	single := len(c.Args) == 2
	count := int64(1)
	if !single {
		var ok bool
		if count, ok = c.parseRandomCount(c.Args[2], false); !ok {
			return
		}
	}
	s, _, ok := c.lookupSet(c.Args[1])
	switch {
	case !ok:
	case single && s == nil:
		c.W.Null()
	case single:
		c.W.Bulk(s.Random(c.Rand))
	case s == nil || count == 0:
		c.W.Array(0)
	default:
		c.W.Array(sampleLen(count, s.Len()))
		sample(c.Rand, c.setPopulation(s), count, func(m []byte, _ struct{}) { c.W.Bulk(m) })
	}
}

func (c *Ctx) setPopulation(s *keyspace.Set) population[struct{}] {
	return population[struct{}]{
		size: s.Len(),
		all: func(yield func([]byte, struct{}) bool) {
			s.All()(func(m []byte) bool { return yield(m, struct{}{}) })
		},
		draw: func() ([]byte, struct{}) { return s.Random(c.Rand), struct{}{} },
	}
}

// spopBatch is the number of members that one SREM of SPOP's effects names, as in Redis: a record stays small however
// many members leave.
const spopBatch = 1024

// cmdSPop goes to the log as what it removed (D1).
func cmdSPop(c *Ctx) {
	if len(c.Args) > 3 {
		c.W.Error(reply.Syntax)
		return
	}
	if len(c.Args) == 2 {
		c.popOne()
		return
	}
	count, ok := c.parsePositive(c.Args[2])
	if !ok {
		return
	}
	s, o, ok := c.lookupSet(c.Args[1])
	switch {
	case !ok:
	case s == nil || count == 0:
		c.W.Set(0)
	case count >= int64(s.Len()):
		c.replyMembers(s)
		c.Notify(EventSet, "spop", c.Args[1])
		c.deleteObject(o)
		verb := verbDel
		if c.Conf.LazyfreeServerDel {
			verb = verbUnlink
		}
		c.Effect(verb, c.Args[1])
	default:
		c.W.Set(int(count))
		popped := make([][]byte, 0, count)
		sample(c.Rand, c.setPopulation(s), count, func(m []byte, _ struct{}) {
			c.W.Bulk(m)
			popped = append(popped, append([]byte(nil), m...))
		})
		c.DB.Touch(o)
		for _, m := range popped {
			s.Remove(m)
		}
		c.Notify(EventSet, "spop", c.Args[1])
		for batch := range slices.Chunk(popped, spopBatch) {
			c.Effect(append([][]byte{verbSRem, c.Args[1]}, batch...)...)
		}
	}
}

func (c *Ctx) popOne() {
	s, o, ok := c.lookupSet(c.Args[1])
	switch {
	case !ok:
	case s == nil:
		c.W.Null()
	default:
		m := s.Random(c.Rand)
		c.W.Bulk(m)
		c.Effect(verbSRem, c.Args[1], m)
		c.DB.Touch(o)
		s.Remove(m)
		c.Notify(EventSet, "spop", c.Args[1])
		c.DeleteIfEmpty(o)
	}
}

// lookupSets returns the sets of keys, with nil for those that do not exist; ok=false if WRONGTYPE was replied.
func (c *Ctx) lookupSets(keys [][]byte) (sets []*keyspace.Set, missing int, ok bool) {
	c.counting = true
	defer func() { c.counting = c.Spec.Flags&FlagWrite == 0 }()
	sets = make([]*keyspace.Set, len(keys))
	for i, key := range keys {
		if sets[i], _, ok = c.lookupSet(key); !ok {
			return nil, 0, false
		}
		if sets[i] == nil {
			missing++
		}
	}
	return sets, missing, true
}

// setAlgebra yields the members of a combination of sets, each once.
type setAlgebra func(limits *keyspace.Limits, sets []*keyspace.Set, missing int) iter.Seq[[]byte]

func none(func([]byte) bool) {}

// intersect walks the smallest set and asks the others, smaller ones first.
func intersect(_ *keyspace.Limits, sets []*keyspace.Set, missing int) iter.Seq[[]byte] {
	if missing > 0 {
		return none
	}
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *keyspace.Set) int { return a.Len() - b.Len() })
	return func(yield func([]byte) bool) {
	next:
		for m := range sets[0].All() {
			for _, s := range sets[1:] {
				if s != sets[0] && !s.Has(m) {
					continue next
				}
			}
			if !yield(m) {
				return
			}
		}
	}
}

// union collects all members in a set of its own.
func union(limits *keyspace.Limits, sets []*keyspace.Set, _ int) iter.Seq[[]byte] {
	u := keyspace.NewSet(limits)
	for _, s := range sets {
		if s != nil {
			for m := range s.All() {
				u.Add(m)
			}
		}
	}
	return u.All()
}

// difference walks the first set and leaves out what any other has. Where the others are many and small, their union is
// made first, so that one question for each member is enough.
func difference(limits *keyspace.Limits, sets []*keyspace.Set, _ int) iter.Seq[[]byte] {
	first := sets[0]
	if first == nil {
		return none
	}
	var others []*keyspace.Set
	total := 0
	for _, s := range sets[1:] {
		if s == first {
			return none
		}
		if s != nil {
			others = append(others, s)
			total += s.Len()
		}
	}
	if len(others) > 1 && first.Len()*(len(others)-1) > total*unionCost {
		u := keyspace.NewSet(limits)
		for _, s := range others {
			for m := range s.All() {
				u.Add(m)
			}
		}
		others = []*keyspace.Set{u}
	}
	slices.SortStableFunc(others, func(a, b *keyspace.Set) int { return b.Len() - a.Len() })
	return func(yield func([]byte) bool) {
	next:
		for m := range first.All() {
			for _, s := range others {
				if s.Has(m) {
					continue next
				}
			}
			if !yield(m) {
				return
			}
		}
	}
}

// unionCost is what adding a member to a set costs, in lookups: it allocates.
const unionCost = 4

func cmdSInter(c *Ctx)      { c.replyAlgebra(intersect) }
func cmdSUnion(c *Ctx)      { c.replyAlgebra(union) }
func cmdSDiff(c *Ctx)       { c.replyAlgebra(difference) }
func cmdSInterStore(c *Ctx) { c.storeAlgebra(intersect) }
func cmdSUnionStore(c *Ctx) { c.storeAlgebra(union) }
func cmdSDiffStore(c *Ctx)  { c.storeAlgebra(difference) }

func (c *Ctx) replyAlgebra(f setAlgebra) {
	sets, missing, ok := c.lookupSets(c.Args[1:])
	if !ok {
		return
	}
	d := c.W.DeferSet()
	n := 0
	for m := range f(c.KS.Limits(), sets, missing) {
		c.W.Bulk(m)
		n++
	}
	c.W.Patch(d, n)
}

func (c *Ctx) storeAlgebra(f setAlgebra) {
	sets, missing, ok := c.lookupSets(c.Args[2:])
	if !ok {
		return
	}
	out := keyspace.NewSet(c.KS.Limits())
	for m := range f(c.KS.Limits(), sets, missing) {
		out.Add(m) // dst may be one of the sources, so the result is complete before it takes its place
	}
	if out.Len() == 0 {
		c.storeNothing(c.Args[1])
		return
	}
	c.Lookup(c.Args[1]) // one that has expired is gone before
	c.DB.Put(c.Args[1], out)
	c.Notify(EventSet, c.Spec.Name, c.Args[1])
	c.Changed()
	c.W.Int(int64(out.Len()))
}

// storeNothing is the end of a …STORE command without a result: the destination goes, and the reply is 0. As in Redis, one that
// has expired is deleted, too, instead of expired.
func (c *Ctx) storeNothing(dst []byte) {
	if o := c.DB.Get(dst); o != nil {
		c.deleteObject(o)
		c.Changed()
	}
	c.W.Int(0)
}

func cmdSInterCard(c *Ctx) {
	n, ok := c.parseWithin(c.Args[1], 1, math.MaxInt64, reply.NumKeysPositive)
	if !ok {
		return
	}
	if n > int64(len(c.Args)-2) {
		c.W.Error(reply.NumKeysTooLarge)
		return
	}
	limit := int64(0)
	for i := 2 + int(n); i < len(c.Args); i += 2 {
		if i+1 == len(c.Args) || !equalFold(c.Args[i], "limit") {
			c.W.Error(reply.Syntax)
			return
		}
		if limit, ok = c.parseWithin(c.Args[i+1], 0, math.MaxInt64, reply.LimitNegative); !ok {
			return
		}
	}
	sets, missing, ok := c.lookupSets(c.Args[2 : 2+n])
	if !ok {
		return
	}
	count := int64(0)
	for range intersect(c.KS.Limits(), sets, missing) {
		if count++; count == limit {
			break
		}
	}
	c.W.Int(count)
}

func cmdSScan(c *Ctx) {
	s, ok := c.beginElementScan(keyspace.TypeSet)
	if !ok {
		return
	}
	next := s.o.Set().Scan(s.cursor, s.count, func(m []byte) {
		if s.matches(m) {
			c.W.Bulk(m)
			s.n++
		}
	})
	c.endElementScan(s, next)
}
