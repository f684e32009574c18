package replication

import (
	"bytes"
	"fmt"

	"github.com/holdfast-db/holdfast/wal"
)

const (
	// streamBuf is how much of the stream is read at once. Larger reads let the sink apply more records for each hold of its lock,
	// read more cold keys in the order of the store, and delay the acknowledgement of the first of them: but so much is there only
	// for who is behind.
	streamBuf = 4 << 20
	// maxRecord bounds a record: what must be in memory to be applied. A value of 512 MiB, Redis's largest, fits, and a large
	// transaction.
	maxRecord = 2 << 30
)

// stream applies what comes until the link ends. What does not make a whole record when it ends is forgotten, and asked for again.
func (u *upstream) stream() error {
	buf := make([]byte, 0, streamBuf)
	s := newScanner()
	for {
		n, err := u.in.Read(buf[len(buf):cap(buf)])
		if n > 0 {
			buf = buf[:len(buf)+n]
			u.got.Add(int64(n))
			scanErr := s.scan(buf)
			taken, err := u.apply(buf[:s.whole], s.getack)
			if err != nil {
				return err
			}
			if scanErr != nil {
				return fmt.Errorf("stream at offset %d: %w", u.applied.Load(), scanErr)
			}
			buf = buf[:copy(buf, buf[taken:])]
			s.taken()
			if buf, err = fit(buf); err != nil {
				return err
			}
		}
		if err != nil {
			return unexpected(err)
		}
	}
}

// apply hands whole records to the sink. getack is where the newest GETACK among them stands, -1 if there is none: it is
// answered with the offset before it, as Redis does, whose offset moves when a command is done.
func (u *upstream) apply(data []byte, getack int) (int, error) {
	base := u.applied.Load()
	for done := 0; done < len(data); {
		n, err := u.r.o.Sink.ApplyStream(u.ctx, data[done:])
		done += n
		u.applied.Store(base + int64(done))
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: a record was not taken", errProtocol)
		}
		if err != nil {
			return done, fmt.Errorf("stream at offset %d: %w", base+int64(done), err)
		}
	}
	if getack >= 0 {
		u.signal(wal.Offset(base) + wal.Offset(getack))
	}
	return len(data), nil
}

// fit makes room for more in a buffer that begins with an unfinished record, and gives back what a large one needed.
func fit(buf []byte) ([]byte, error) {
	switch {
	case len(buf) == cap(buf):
		if len(buf) >= maxRecord {
			return nil, fmt.Errorf("%w: record of more than %d bytes", errProtocol, maxRecord)
		}
		return append(make([]byte, 0, 2*cap(buf)), buf...), nil
	case cap(buf) > 4*streamBuf && len(buf) < streamBuf:
		return append(make([]byte, 0, streamBuf), buf...), nil
	}
	return buf, nil
}

// scanner finds where records end in a buffer that grows at its end, without looking at a byte twice: lengths are read and
// what they span is skipped. A record is a command, or all from MULTI to EXEC (W2).
type scanner struct {
	whole  int // behind the last whole record
	getack int // where the newest REPLCONF GETACK before it stands; -1: none

	at    int // next byte to look at: where an argument, or a command, begins
	start int // of the command that at is in
	args  int // arguments of that command; 0: at is where one begins
	left  int // of them still to come
	first []byte
	multi bool
	ask   bool // the command is REPLCONF GETACK
}

func newScanner() *scanner { return &scanner{getack: -1} }

// taken says that the whole records were taken from the front of the buffer.
func (s *scanner) taken() {
	s.at -= s.whole
	s.start -= s.whole
	s.whole, s.getack = 0, -1
}

// scan goes on with a buffer that is the last one and more.
func (s *scanner) scan(buf []byte) error {
	for {
		if s.args == 0 {
			n, size, err := header(buf[s.at:], '*')
			if size == 0 || err != nil {
				return err
			}
			if n < 1 {
				return fmt.Errorf("%w: command without a name", errProtocol)
			}
			s.start, s.at, s.args, s.left, s.ask, s.first = s.at, s.at+size, n, n, false, nil
		}
		n, size, err := header(buf[s.at:], '$')
		if size == 0 || err != nil {
			return err
		}
		if len(buf)-s.at-size < n+2 {
			return nil
		}
		arg := buf[s.at+size : s.at+size+n]
		if e := s.at + size + n; buf[e] != '\r' || buf[e+1] != '\n' {
			return fmt.Errorf("%w: argument without its end", errProtocol)
		}
		s.see(arg)
		s.at += size + n + 2
		if s.left--; s.left == 0 {
			s.finish()
		}
	}
}

// see notes what the scanner must know of a command's first two arguments.
func (s *scanner) see(arg []byte) {
	switch s.args - s.left {
	case 0:
		if s.args == 1 && (equalFold(arg, "multi") || equalFold(arg, "exec")) || s.args == 3 && equalFold(arg, "replconf") {
			s.first = bytes.ToLower(arg) // the buffer may move before the command ends
		}
	case 1:
		s.ask = string(s.first) == "replconf" && equalFold(arg, "getack")
	}
}

func (s *scanner) finish() {
	s.args = 0
	switch {
	case string(s.first) == "multi":
		s.multi = true
	case string(s.first) == "exec":
		s.multi = false
	}
	if s.ask {
		s.getack = s.start
	}
	if !s.multi {
		s.whole = s.at
	}
}

// header reads a line of kind and a number. size 0 without an error means that it is not all there.
func header(b []byte, kind byte) (n, size int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] != kind {
		return 0, 0, fmt.Errorf("%w: %q instead of %q", errProtocol, b[0], kind)
	}
	const maxDigits = 10
	for i := 1; i < len(b) && i <= maxDigits+1; i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9' && i <= maxDigits:
			n = n*10 + int(c-'0')
		case c == '\r' && i > 1:
			if i+1 == len(b) {
				return 0, 0, nil
			}
			if b[i+1] != '\n' || n > maxRecord {
				return 0, 0, fmt.Errorf("%w: length %q", errProtocol, b[:i+2])
			}
			return n, i + 2, nil
		default:
			return 0, 0, fmt.Errorf("%w: length %q", errProtocol, b[:i+1])
		}
	}
	return 0, 0, nil
}
