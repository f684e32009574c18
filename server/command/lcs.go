package command

import (
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
)

// cmdLCS finds the longest common subsequence of two strings by the table of lengths of all prefixes: time and memory are
// the product of both lengths, which is therefore bounded as a string's length is.
func cmdLCS(c *Ctx) {
	var getLen, getIdx, withLen bool
	minLen := int64(0)
	var values [2][]byte
	for i := 1; i <= 2; i++ {
		o := c.Lookup(c.Args[i])
		if o == nil {
			continue
		}
		if o.Type() != keyspace.TypeString {
			c.W.Error(reply.LCSNotStrings)
			return
		}
		values[i-1] = o.String()
	}
	for i := 3; i < len(c.Args); i++ {
		switch opt := c.Args[i]; {
		case equalFold(opt, "idx"):
			getIdx = true
		case equalFold(opt, "len"):
			getLen = true
		case equalFold(opt, "withmatchlen"):
			withLen = true
		case equalFold(opt, "minmatchlen") && i+1 < len(c.Args):
			i++
			var ok bool
			if minLen, ok = c.ParseInt(c.Args[i]); !ok {
				return
			}
			minLen = max(minLen, 0)
		default:
			c.W.Error(reply.Syntax)
			return
		}
	}
	if getLen && getIdx {
		c.W.Error(reply.LCSLenAndIdx)
		return
	}
	a, b := values[0], values[1]
	const maxLen = 1<<32 - 2
	if len(a) > maxLen || len(b) > maxLen {
		c.W.Error(reply.LCSTooLong)
		return
	}
	if cells := int64(len(a)+1) * int64(len(b)+1); cells*4 > c.Conf.ProtoMaxBulkLen {
		c.W.Error(reply.LCSNoMemory)
		return
	}
	width := len(b) + 1
	table := make([]uint32, (len(a)+1)*width)
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			if a[i-1] == b[j-1] {
				table[i*width+j] = table[(i-1)*width+j-1] + 1
			} else {
				table[i*width+j] = max(table[(i-1)*width+j], table[i*width+j-1])
			}
		}
	}
	total := int64(table[len(a)*width+len(b)])
	if getLen {
		c.W.Int(total)
		return
	}

	// Walk back from the end; matches that touch form one range.
	type match struct{ aStart, aEnd, bStart, bEnd int }
	var cur match
	open := false
	var matches []match
	flush := func() {
		if open && int64(cur.aEnd-cur.aStart+1) >= minLen {
			matches = append(matches, cur)
		}
		open = false
	}
	out := make([]byte, total)
	at := total
	for i, j := len(a), len(b); i > 0 && j > 0; {
		switch {
		case a[i-1] == b[j-1]:
			at--
			out[at] = a[i-1]
			if open && cur.aStart == i && cur.bStart == j {
				cur.aStart, cur.bStart = i-1, j-1
			} else {
				flush()
				cur, open = match{i - 1, i - 1, j - 1, j - 1}, true
			}
			i, j = i-1, j-1
		case table[(i-1)*width+j] > table[i*width+j-1]:
			i--
		default:
			j--
		}
	}
	flush()
	if !getIdx {
		c.W.Bulk(out)
		return
	}
	c.W.Map(2)
	c.W.BulkString("matches")
	c.W.Array(len(matches))
	for _, m := range matches {
		if withLen {
			c.W.Array(3)
		} else {
			c.W.Array(2)
		}
		c.W.Array(2)
		c.W.Int(int64(m.aStart))
		c.W.Int(int64(m.aEnd))
		c.W.Array(2)
		c.W.Int(int64(m.bStart))
		c.W.Int(int64(m.bEnd))
		if withLen {
			c.W.Int(int64(m.aEnd - m.aStart + 1))
		}
	}
	c.W.BulkString("len")
	c.W.Int(total)
}
