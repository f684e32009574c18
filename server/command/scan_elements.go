package command

import (
	"bytes"
	"math"
	"strconv"

	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// HSCAN, SSCAN and ZSCAN. A cursor is a position in the collection's hash order, so it needs no state and stays valid
// while the collection changes; packed collections and intsets come whole in one reply, whatever COUNT says, as in Redis.

// elementScan is one step of a scan over a collection.
type elementScan struct {
	o       *keyspace.Object
	cursor  uint64
	count   int
	pattern []byte // nil: everything matches
	n       int    // bulk strings written so far

	head     int // where the reply begins
	elements reply.Deferred
}

// defaultScanCount is Redis's.
const defaultScanCount = 10

// beginElementScan parses the command. ok is false if the reply is complete already: an error, or no such key.
func (c *Ctx) beginElementScan(t keyspace.Type) (s elementScan, ok bool) {
	if s.cursor, ok = parseElementCursor(c.Args[2]); !ok {
		c.W.Error(reply.InvalidCursor)
		return s, false
	}
	if s.o, ok = c.LookupType(c.Args[1], t); !ok {
		return s, false
	}
	if s.o == nil {
		c.W.Array(2)
		c.W.BulkString("0")
		c.W.Array(0)
		return s, false
	}
	s.count = defaultScanCount
	for i := 3; i < len(c.Args); i += 2 {
		switch opt, left := c.Args[i], len(c.Args)-i-1; {
		case left >= 1 && equalFold(opt, "count"):
			n, ok := c.ParseInt(c.Args[i+1])
			if !ok {
				return s, false
			}
			if n < 1 {
				c.W.Error(reply.Syntax)
				return s, false
			}
			s.count = int(min(n, math.MaxInt32))
		case left >= 1 && equalFold(opt, "match"):
			s.pattern = c.Args[i+1]
			if string(s.pattern) == "*" {
				s.pattern = nil
			}
		default:
			c.W.Error(reply.Syntax)
			return s, false
		}
	}
	s.head = c.W.Len()
	s.elements = c.W.DeferArray()
	return s, true
}

func (s *elementScan) matches(m []byte) bool {
	return s.pattern == nil || globMatch(s.pattern, m)
}

// endElementScan completes the reply. The cursor stands before the elements but is known after them.
func (c *Ctx) endElementScan(s elementScan, next uint64) {
	c.W.Patch(s.elements, s.n)
	var buf [32]byte
	head := append(buf[:0], "*2\r\n$"...)
	var digits [20]byte
	cursor := strconv.AppendUint(digits[:0], next, 10)
	head = strconv.AppendInt(head, int64(len(cursor)), 10)
	head = append(append(append(head, "\r\n"...), cursor...), "\r\n"...)
	b := c.W.Bytes()
	body := bytes.Clone(b[s.head:])
	c.W.Truncate(s.head)
	c.W.Raw(head)
	c.W.Raw(body)
}

// parseElementCursor parses a cursor as Redis does with C's strtoul: the empty string is 0, a sign may stand in front, a
// minus wraps around, overflow is an error.
func parseElementCursor(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, true
	}
	neg := b[0] == '-'
	if neg || b[0] == '+' {
		b = b[1:]
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, false
	}
	if neg {
		n = -n
	}
	return n, true
}
