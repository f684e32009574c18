package server

import (
	"bytes"
	"errors"
	"math"

	"github.com/holdfast-db/holdfast/server/reply"
)

// Limits of the framing. The first four are Redis's constants; clients and their tests rely on the errors.
const (
	// maxMultibulk bounds the arguments of one command.
	maxMultibulk = math.MaxInt32
	// maxUnauthMultibulk and maxUnauthBulk bound what a client may send before it has authenticated: enough for AUTH and
	// HELLO, too little to make the server hold memory for a stranger.
	maxUnauthMultibulk = 10
	maxUnauthBulk      = 16 << 10
	// maxInline bounds an inline command, and any length line of a multibulk one, in bytes.
	maxInline = 64 << 10
	// readChunk is how many bytes one read asks for at least, Redis's PROTO_IOBUF_LEN. It is also the size of the buffer
	// that a loop lends to connections, and so what a blocked connection may keep.
	readChunk = 16 << 10
	// minSpace is the least room a read gets when the rest of a command is known to be short.
	minSpace = 4 << 10
	// keepArgs is how many argument slots a guard keeps between reads.
	keepArgs = 1 << 10
)

// errQueryBufferLimit closes a connection whose unparsed input exceeds client-query-buffer-limit. No reply is sent, as
// in Redis.
var errQueryBufferLimit = errors.New("query buffer limit exceeded")

// ProtocolError is malformed input. Text is the error reply, without '-'; the connection is closed after it has left.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return e.Text }

// argRef is an argument of the command being parsed, by its place relative to the command's first byte.
type argRef struct{ off, end int }

// Guard is the framing of one connection's input: it holds what has been read and yields commands one by one.
//
// It trusts nothing. Lengths are checked against the limits before anything is done with them, memory grows with the
// bytes that came and never with those that were announced, and a command that arrives in many pieces is parsed once:
// the guard goes on where it stopped.
//
// A Guard is used by the owner of its connection only.
type Guard struct {
	buf   []byte // everything held; buf[start:] is not consumed
	start int    // first byte of the command being parsed
	pos   int    // how far parsing has come
	seen  int    // bytes after pos known to hold no line end

	left  int    // arguments still to come; 0 between commands
	exact bool   // the command being parsed is in canonical form so far
	raw   []byte // see Raw
	bulk  int64  // length of the argument being read, -1 before its header
	refs  []argRef

	args     [][]byte // arena of the argument lists handed out since the last fill
	lastSize int
	total    int64
	err      error

	borrowed bool // buf is the loop's, lent for one call of OnData

	unauthenticated bool
	maxBulk         int64
	maxBuffer       int64
}

// NewGuard returns a guard with the given proto-max-bulk-len and client-query-buffer-limit in bytes.
func NewGuard(maxBulk, maxBuffer int64) *Guard {
	g := new(Guard)
	g.init(maxBulk, maxBuffer)
	return g
}

func (g *Guard) init(maxBulk, maxBuffer int64) {
	g.bulk = -1
	g.maxBulk, g.maxBuffer = maxBulk, maxBuffer
}

// SetLimits changes proto-max-bulk-len and client-query-buffer-limit, in bytes.
func (g *Guard) SetLimits(maxBulk, maxBuffer int64) { g.maxBulk, g.maxBuffer = maxBulk, maxBuffer }

// SetAuthenticated lifts or imposes the limits for clients that have not authenticated. A new guard has none: with no
// password configured every client is authenticated.
func (g *Guard) SetAuthenticated(ok bool) { g.unauthenticated = !ok }

// Buffered returns how many bytes are held that Next has not consumed.
func (g *Guard) Buffered() int { return len(g.buf) - g.start }

// Cap returns the size of the buffer's memory in bytes, 0 while nothing is held.
func (g *Guard) Cap() int { return cap(g.buf) }

// LastSize returns the length on the wire of the command that Next returned last, in bytes.
func (g *Guard) LastSize() int { return g.lastSize }

// Total returns how many bytes of commands have been consumed since the connection began.
func (g *Guard) Total() int64 { return g.total }

// Feed appends a copy of b to the input. It ends the validity of what Next returned.
func (g *Guard) Feed(b []byte) error {
	for len(b) > 0 {
		n := copy(g.space(), b)
		if err := g.filled(n); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Next returns the next complete command, nil if there is none yet, or a *ProtocolError, after which it yields nothing
// else. The arguments lie in the guard's buffer: they, and the list, are valid until more input is read, which happens
// only after OnData or Continue has returned. Empty commands (*0, *-1, blank lines) are passed over.
func (g *Guard) Next() ([][]byte, error) {
	if g.err != nil {
		return nil, g.err
	}
	for g.pos < len(g.buf) {
		var done bool
		if g.left > 0 || g.buf[g.pos] == '*' {
			done = g.multibulk()
		} else {
			done = g.inline()
		}
		if g.err != nil {
			return nil, g.err
		}
		if !done {
			return nil, nil
		}
		g.lastSize = g.pos - g.start
		g.total += int64(g.lastSize)
		if g.raw = nil; g.exact {
			g.raw = g.buf[g.start:g.pos:g.pos]
		}
		if len(g.refs) == 0 {
			g.start = g.pos
			continue
		}
		cmd := g.buf[g.start:]
		first := len(g.args)
		for _, r := range g.refs {
			g.args = append(g.args, cmd[r.off:r.end:r.end])
		}
		g.start, g.refs = g.pos, g.refs[:0]
		return g.args[first:len(g.args):len(g.args)], nil
	}
	return nil, nil
}

func (g *Guard) fail(text string) bool {
	g.err = &ProtocolError{Text: text}
	return false
}

// Raw returns the bytes of the command that Next returned last if they are what wal.AppendCommand would make of its
// arguments, nil if not (an inline command, a careless client). They are valid as long as the arguments are.
func (g *Guard) Raw() []byte { return g.raw }

// multibulk goes on with a command in array form. It returns true when the command is complete.
func (g *Guard) multibulk() bool {
	if g.left == 0 {
		g.exact = true
		n, ok, complete := g.length(reply.ProtoMultibulkTooBig)
		if !complete {
			return false
		}
		if !ok || n > maxMultibulk {
			return g.fail(reply.ProtoMultibulkLen)
		}
		if n > maxUnauthMultibulk && g.unauthenticated {
			return g.fail(reply.ProtoUnauthMultibulk)
		}
		if n <= 0 {
			return true
		}
		g.left = int(n)
	}
	for g.left > 0 {
		if g.bulk < 0 {
			if g.pos >= len(g.buf) {
				return false
			}
			dollar := g.buf[g.pos]
			n, ok, complete := g.length(reply.ProtoBulkTooBig)
			if !complete {
				return false
			}
			if dollar != '$' {
				return g.fail(reply.ProtoExpectedDollar + string([]byte{dollar}) + "'")
			}
			if !ok || n < 0 || n > g.maxBulk {
				return g.fail(reply.ProtoBulkLen)
			}
			if n > maxUnauthBulk && g.unauthenticated {
				return g.fail(reply.ProtoUnauthBulk)
			}
			g.bulk = n
		}
		// The two bytes after an argument are passed over unread, as Redis does.
		if int64(len(g.buf)-g.pos) < g.bulk+2 {
			return false
		}
		off := g.pos - g.start
		end := off + int(g.bulk)
		g.refs = append(g.refs, argRef{off: off, end: end})
		g.pos += int(g.bulk) + 2
		g.exact = g.exact && g.buf[g.pos-2] == '\r' && g.buf[g.pos-1] == '\n'
		g.bulk = -1
		g.left--
	}
	return true
}

// length reads the line "xN\r\n" at pos, x being any byte. complete is false if the line has not arrived as a whole; ok
// is false if N is no canonical integer. On success pos is behind the line.
func (g *Guard) length(tooBig string) (n int64, ok, complete bool) {
	b := g.buf[g.pos:]
	// The common case: the right type, a few digits, then the line end. Any other type byte may itself be what ends the
	// line (CR) or the search for its end (NUL).
	for i := 1; i < len(b) && i < 18 && (b[0] == '*' || b[0] == '$'); i++ {
		c := b[i]
		if d := c - '0'; d <= 9 {
			n = n*10 + int64(d)
			continue
		}
		if c == '\r' && i > 1 && (b[1] != '0' || i == 2) {
			if i+1 >= len(b) {
				return 0, false, false
			}
			g.pos += i + 2
			g.seen = 0
			g.exact = g.exact && b[i+1] == '\n'
			return n, true, true
		}
		break
	}
	g.exact = false
	// Redis looks for the CR with strchr, which ends at a NUL: such a line never ends and runs into the limit.
	cr := indexOrNUL(b, '\r', g.seen)
	if cr < 0 {
		if len(b) > maxInline {
			g.fail(tooBig)
			return 0, false, false
		}
		g.seen = -cr - 1
		return 0, false, false
	}
	if cr+1 >= len(b) {
		g.seen = cr
		return 0, false, false
	}
	g.seen = 0
	g.pos += cr + 2
	if cr == 0 { // the type byte itself is a CR
		return 0, false, true
	}
	n, ok = parseLength(b[1:cr])
	return n, ok, true
}

// indexOrNUL returns the index of c in b, or -1-n if it is not among the bytes before the first NUL; the search need not
// look at the first n bytes again. from is such an n.
func indexOrNUL(b []byte, c byte, from int) int {
	from = min(from, len(b))
	tail := b[from:]
	i := bytes.IndexByte(tail, c)
	before := tail
	if i >= 0 {
		before = tail[:i]
	}
	if nul := bytes.IndexByte(before, 0); nul >= 0 {
		return -1 - (from + nul)
	}
	if i < 0 {
		return -1 - len(b)
	}
	return from + i
}

// parseLength reads a canonical decimal integer as Redis's string2ll: no plus sign, no leading zero, no space.
func parseLength(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 || (b[0] == '0' && (len(b) > 1 || neg)) {
		return 0, false
	}
	var u uint64
	for _, c := range b {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		u = u*10 + uint64(d) // 19 digits cannot overflow 64 bits
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), true
	case !neg && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}

// inline reads a command in one line, as a person types it into telnet. It returns true when the line is complete.
func (g *Guard) inline() bool {
	g.exact = false
	b := g.buf[g.pos:]
	nl := indexOrNUL(b, '\n', g.seen)
	if nl < 0 {
		g.seen = -nl - 1
		if len(b) > maxInline {
			return g.fail(reply.ProtoInlineTooBig)
		}
		return false
	}
	if nl > maxInline {
		return g.fail(reply.ProtoInlineTooBig)
	}
	line := b[:nl]
	if nl > 0 && line[nl-1] == '\r' {
		line = line[:nl-1]
	}
	if !g.split(line) {
		return g.fail(reply.ProtoUnbalancedQuotes)
	}
	g.pos += nl + 1
	g.seen = 0
	return true
}

// split cuts line into arguments with the rules of Redis's sdssplitargs: "…" knows \n \r \t \b \a \xHH and takes any
// other character after a backslash as it is, '…' knows \' only, a closing quote must be followed by space or the end,
// and an opening quote may stand within a word. Arguments are unescaped in place, which only makes them shorter. It
// returns false if quotes are unbalanced.
func (g *Guard) split(line []byte) bool {
	g.refs = g.refs[:0]
	base := g.pos - g.start
	r := 0
	for {
		for r < len(line) && isSpace(line[r]) {
			r++
		}
		if r == len(line) {
			return true
		}
		var quote byte
		w, off := r, r
	word:
		for ; r < len(line); r++ {
			c := line[r]
			switch {
			case quote == '"' && c == '\\' && r+1 < len(line):
				if line[r+1] == 'x' && r+3 < len(line) && isHex(line[r+2]) && isHex(line[r+3]) {
					c = unhex(line[r+2])<<4 | unhex(line[r+3])
					r += 3
				} else {
					r++
					c = unescape(line[r])
				}
			case quote == '\'' && c == '\\' && r+1 < len(line) && line[r+1] == '\'':
				r++
				c = '\''
			case quote != 0 && c == quote:
				if r+1 < len(line) && !isSpace(line[r+1]) {
					return false
				}
				quote = 0
				r++
				break word
			case quote == 0 && (c == ' ' || c == '\t' || c == '\r'):
				r++
				break word
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
				continue
			}
			line[w] = c
			w++
		}
		if quote != 0 {
			return false
		}
		g.refs = append(g.refs, argRef{off: base + off, end: base + w})
	}
}

func isSpace(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') }

func isHex(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	default:
		return c - 'A' + 10
	}
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

// borrow lends buf to an empty guard for one read and the parsing after it. It returns false if the guard holds input
// already; its own buffer is then to be used.
func (g *Guard) borrow(buf []byte) bool {
	if len(g.buf) > g.start {
		return false
	}
	g.rewind()
	g.buf, g.borrowed = buf[:0], true
	return true
}

// settle ends a loan: what is left of the input moves to a buffer of the guard's own, as large as the rest.
func (g *Guard) settle() {
	if !g.borrowed {
		if g.start == len(g.buf) {
			g.rewind()
			g.buf = nil
		}
		return
	}
	rest := g.buf[g.start:]
	g.borrowed = false
	if len(rest) == 0 {
		g.rewind()
		g.buf = nil
		return
	}
	own := make([]byte, len(rest), max(512, 2*len(rest)))
	copy(own, rest)
	g.buf, g.pos, g.start = own, g.pos-g.start, 0
}

// keep turns a loan into ownership, so that arguments that were handed out stay valid. It returns whether there was one;
// the lender needs a new buffer then.
func (g *Guard) keep() bool {
	was := g.borrowed
	g.borrowed = false
	return was
}

// rewind forgets consumed input. REQUIRES: all input is consumed.
func (g *Guard) rewind() {
	g.buf, g.start, g.pos = g.buf[:0], 0, 0
}

// space returns room for the next read. It grows with what has arrived: at most as much again as is held, and no more
// than the rest of the argument being read needs. It ends the validity of what Next returned.
func (g *Guard) space() []byte {
	g.endArgs()
	if g.borrowed {
		return g.buf[len(g.buf):cap(g.buf)]
	}
	if g.start == len(g.buf) {
		g.rewind()
	}
	held := len(g.buf) - g.start
	room := readChunk
	if g.bulk >= 0 {
		room = int(min(g.bulk+2-int64(len(g.buf)-g.pos), int64(max(held, readChunk))))
		room = max(room, minSpace)
	}
	if cap(g.buf)-len(g.buf) < min(room, minSpace) {
		to := g.buf[:0]
		if cap(g.buf) < held+room {
			to = make([]byte, 0, held+room)
		}
		g.buf = append(to, g.buf[g.start:]...)
		g.pos -= g.start
		g.start = 0
	}
	free := g.buf[len(g.buf):cap(g.buf)]
	return free
}

func (g *Guard) endArgs() {
	if cap(g.args) > keepArgs {
		g.args = nil
	}
	g.args = g.args[:0]
	if len(g.refs) == 0 && cap(g.refs) > keepArgs {
		g.refs = nil
	}
}

// filled adds the n bytes that were read into space. The error is errQueryBufferLimit.
func (g *Guard) filled(n int) error {
	g.buf = g.buf[:len(g.buf)+n]
	if int64(len(g.buf)-g.start) > g.maxBuffer {
		return errQueryBufferLimit
	}
	return nil
}

// takeRest gives away the unconsumed input.
func (g *Guard) takeRest() []byte {
	rest := append([]byte(nil), g.buf[g.start:]...)
	g.rewind()
	g.buf = nil
	return rest
}
