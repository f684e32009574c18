package command

import (
	"math"
	"math/rand/v2"

	"github.com/holdfast-db/holdfast/server/reply"
)

// The algorithms behind HRANDFIELD, SRANDMEMBER, ZRANDMEMBER and SPOP with a count. A negative count asks for that many
// independent draws. A positive one asks for distinct elements, in one of three ways:
//
//   - all of them if count is not below the size;
//   - a single pass that takes each element with the right probability (Knuth's algorithm S), where count is a
//     considerable part of the size: no memory, and no draw is ever thrown away;
//   - else draws until there are enough different ones: with fewer than a third taken, less than half the draws are lost.

// maxDraws bounds the draws of a negative count: each of them is copied into the reply while the executor is held, and
// Redis without this bound can be made to fill its memory by one command. 16 million short elements are about 300 MB.
const maxDraws = 1 << 24

// passShare: one pass is taken if count * passShare > size, as Redis's *RANDFIELD_SUB_STRATEGY_MUL.
const passShare = 3

// picker takes need of left elements that are shown to it one after another, each with equal probability.
type picker struct {
	r          *rand.Rand
	left, need int
}

func (p *picker) take() bool {
	taken := p.need > 0 && p.r.IntN(p.left) < p.need
	p.left--
	if taken {
		p.need--
	}
	return taken
}

// drawDistinct calls draw until it has returned want different elements, and emit with each of those.
func drawDistinct[V any](want int, draw func() ([]byte, V), emit func([]byte, V)) {
	seen := make(map[string]struct{}, want)
	for len(seen) < want {
		m, v := draw()
		if _, dup := seen[string(m)]; dup {
			continue
		}
		seen[string(m)] = struct{}{}
		emit(m, v)
	}
}

// parseRandomCount parses the count of the *RANDMEMBER family. halved is set if pairs are asked for, so that the number
// of replies must not overflow.
func (c *Ctx) parseRandomCount(b []byte, halved bool) (int64, bool) {
	n, ok := c.parseWithin(b, -math.MaxInt64, math.MaxInt64, "")
	if !ok {
		return 0, false
	}
	if halved && (n < -math.MaxInt64/2 || n > math.MaxInt64/2) || n < -maxDraws {
		c.W.Error(reply.ValueOutOfRange)
		return 0, false
	}
	return n, true
}

// population is what is drawn from.
type population[V any] struct {
	size int
	all  func(yield func([]byte, V) bool)
	draw func() ([]byte, V)
}

// sample calls emit for count elements of p: distinct ones, or -count independent draws. It returns nothing, since how
// many there will be is known before: sampleLen.
func sample[V any](r *rand.Rand, p population[V], count int64, emit func([]byte, V)) {
	switch {
	case count < 0:
		for range -count {
			emit(p.draw())
		}
	case count*passShare > int64(p.size) || count >= int64(p.size):
		pick := picker{r, p.size, int(min(count, int64(p.size)))}
		for m, v := range p.all {
			if pick.need == 0 {
				return
			}
			if pick.take() {
				emit(m, v)
			}
		}
	default:
		drawDistinct(int(count), p.draw, emit)
	}
}

// sampleLen returns how many elements sample emits.
func sampleLen(count int64, size int) int {
	if count < 0 {
		return int(-count)
	}
	return int(min(count, int64(size)))
}
