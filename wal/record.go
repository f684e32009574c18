package wal

import (
	"errors"
	"strconv"
)

// Limits of a record's framing; Redis's own for a client.
const (
	maxArgs = 1024 * 1024
	maxBulk = 1 << 40 // a bulk's length is bounded by memory elsewhere; this only keeps sums from overflowing
)

// ErrRecord says that bytes are not a RESP array of bulk strings in canonical form.
var ErrRecord = errors.New("wal: malformed record")

// AppendCommand appends a command as a RESP array of bulk strings.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, a := range args {
		dst = appendHeader(dst, '$', len(a))
		dst = append(dst, a...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	if n < 10 {
		return append(dst, byte('0'+n), '\r', '\n')
	}
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// ReadRecord reads one command from the front of buf, strictly: an array of bulk strings with canonical lengths. args
// point into buf. n is the number of bytes read; 0 without an error means that buf ends inside the command. (That MULTI
// and EXEC bracket a record of several commands is for the reader to see; a chunk never splits them.)
func ReadRecord(buf []byte) (args [][]byte, n int, err error) {
	return AppendArgs(nil, buf)
}

// AppendArgs is ReadRecord that appends to args.
func AppendArgs(args [][]byte, buf []byte) (_ [][]byte, n int, err error) {
	count, pos, err := readHeader(buf, 0, '*', maxArgs)
	if err != nil || pos == 0 {
		return args, 0, err
	}
	if count == 0 {
		return args, 0, ErrRecord
	}
	for range count {
		size, p, err := readHeader(buf, pos, '$', maxBulk)
		if err != nil || p == 0 {
			return args, 0, err
		}
		if len(buf)-p < size+2 {
			return args, 0, nil
		}
		if buf[p+size] != '\r' || buf[p+size+1] != '\n' {
			return args, 0, ErrRecord
		}
		args = append(args, buf[p:p+size:p+size])
		pos = p + size + 2
	}
	return args, pos, nil
}

// readHeader reads kind, a canonical number up to limit, and CRLF at pos; it returns 0 for the new position if buf ends
// before that.
func readHeader(buf []byte, pos int, kind byte, limit int) (n, next int, err error) {
	if pos >= len(buf) {
		return 0, 0, nil
	}
	if buf[pos] != kind {
		return 0, 0, ErrRecord
	}
	digits := 0
	for i := pos + 1; i < len(buf); i++ {
		switch c := buf[i]; {
		case c >= '0' && c <= '9':
			if digits > 0 && n == 0 {
				return 0, 0, ErrRecord
			}
			n = n*10 + int(c-'0')
			if digits++; n > limit {
				return 0, 0, ErrRecord
			}
		case c == '\r':
			if digits == 0 {
				return 0, 0, ErrRecord
			}
			if i+1 == len(buf) {
				return 0, 0, nil
			}
			if buf[i+1] != '\n' {
				return 0, 0, ErrRecord
			}
			return n, i + 2, nil
		default:
			return 0, 0, ErrRecord
		}
	}
	return 0, 0, nil
}
