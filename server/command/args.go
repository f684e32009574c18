package command

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/reply"
)

// Parsing of arguments that several families share. Each function replies with the error that Redis gives and returns
// false if the argument is malformed.

// wrongArity replies that the command has too many or too few arguments, for what the table's arity cannot say.
func (c *Ctx) wrongArity() { c.W.Error(fmt.Sprintf(reply.WrongArityF, c.Spec.FullName)) }

// parseWithin parses an integer within lo … hi, both included. msg replaces both of Redis's standard errors unless empty.
func (c *Ctx) parseWithin(b []byte, lo, hi int64, msg string) (int64, bool) {
	n, ok := ParseInt(b)
	switch {
	case ok && lo <= n && n <= hi:
		return n, true
	case msg != "":
		c.W.Error(msg)
	case !ok:
		c.W.Error(reply.NotInt)
	default:
		c.W.Error(fmt.Sprintf(reply.ValueBetweenF, lo, hi))
	}
	return 0, false
}

// parsePositive parses an integer that is not negative.
func (c *Ctx) parsePositive(b []byte) (int64, bool) {
	return c.parseWithin(b, 0, math.MaxInt64, reply.MustBePositive)
}

// parseTimeout parses the timeout of a blocking command: seconds with a fraction. It returns milliseconds, rounded up,
// such that Now + ms does not overflow; 0 = forever.
func (c *Ctx) parseTimeout(b []byte) (ms int64, ok bool) {
	f, ok := ParseFloat(b)
	if !ok {
		// Redis reads a long double, which holds what is infinite as a double.
		if v, err := strconv.ParseFloat(string(b), 64); !errors.Is(err, strconv.ErrRange) || !math.IsInf(v, 0) {
			c.W.Error(reply.TimeoutNotFloat)
			return 0, false
		}
		f = -1
	}
	// Redis 7.0 lets what is too large for an int64 wrap around and become negative; later versions say out of range.
	f = math.Ceil(f * 1000)
	if f < 0 || f >= math.MaxInt64 {
		c.W.Error(reply.TimeoutNegative)
		return 0, false
	}
	return min(int64(f), math.MaxInt64-c.Now), true
}

// parseNumKeys parses the number of keys in Args[at] of the MPOP family, behind whose keys at least one argument stands.
// It returns the keys and the index of what follows them.
func (c *Ctx) parseNumKeys(at int) (keys [][]byte, next int, ok bool) {
	n, ok := c.parseWithin(c.Args[at], 1, math.MaxInt64, reply.NumKeysPositive)
	if !ok {
		return nil, 0, false
	}
	if n >= int64(len(c.Args)-at-1) {
		c.W.Error(reply.Syntax)
		return nil, 0, false
	}
	next = at + 1 + int(n)
	return c.Args[at+1 : next], next, true
}

// parsePopCount parses the options of the MPOP family from Args[at] on: COUNT n, once.
func (c *Ctx) parsePopCount(at int) (count int64, ok bool) {
	count = -1
	for ; at < len(c.Args); at += 2 {
		if count != -1 || at+1 == len(c.Args) || !equalFold(c.Args[at], "count") {
			c.W.Error(reply.Syntax)
			return 0, false
		}
		if count, ok = c.parseWithin(c.Args[at+1], 1, math.MaxInt64, reply.CountPositive); !ok {
			return 0, false
		}
	}
	if count == -1 {
		count = 1
	}
	return count, true
}

// keysCounted finds keys whose number stands in args[at]; with dest, args[1] is one more.
func keysCounted(at int, dest bool) KeysFunc {
	return func(args [][]byte) []int {
		if at >= len(args) {
			return nil
		}
		n, ok := ParseInt(args[at])
		if !ok || n < 1 || n > int64(len(args)-at-1) {
			return nil
		}
		keys := make([]int, 0, n+1)
		if dest {
			keys = append(keys, 1)
		}
		for i := range int(n) {
			keys = append(keys, at+1+i)
		}
		return keys
	}
}

// clampRange turns the ends of a Redis range (negative = from the end, both included) into indexes within n elements;
// start > stop means none.
func clampRange(start, stop int64, n int) (int, int) {
	if start < 0 {
		start = max(0, start+int64(n))
	}
	if stop < 0 {
		stop += int64(n)
	}
	if start > stop || start >= int64(n) {
		return 0, -1
	}
	return int(start), int(min(stop, int64(n)-1))
}

// effectCounted is the effect VERB key n.
func (c *Ctx) effectCounted(verb, key []byte, n int) {
	var buf [20]byte
	c.Effect(verb, key, strconv.AppendInt(buf[:0], int64(n), 10))
}
