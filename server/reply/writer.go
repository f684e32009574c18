// Package reply writes RESP2 and RESP3 replies into a byte buffer, and holds the error texts that clients see.
//
// A Writer is a buffer with a protocol version. Handlers call the method that names what they mean (Map, Set, Double,
// Null …) and the Writer chooses the bytes: RESP2 has no maps, sets, doubles, booleans or typed nulls, so there they
// become the arrays, bulk strings and integers that Redis sends in their place. Nothing here allocates once the buffer has
// grown to its working size.
//
// The package is a leaf: it knows neither commands nor connections.
package reply

import (
	"strconv"

	"github.com/tidwall/redcon"
)

// Writer appends replies to a buffer. The zero value is ready and speaks RESP2. It is not safe for concurrent use.
type Writer struct {
	buf   []byte
	resp3 bool

	errs    int
	lastErr string
}

// Reset empties the buffer, keeps its memory, forgets counted errors and sets the protocol (2 or 3; 0 is read as 2).
func (w *Writer) Reset(proto int) {
	w.buf = w.buf[:0]
	w.resp3 = proto == 3
	w.errs, w.lastErr = 0, ""
}

// Proto returns 2 or 3.
func (w *Writer) Proto() int {
	if w.resp3 {
		return 3
	}
	return 2
}

// SetProto changes the protocol of what is written from here on.
func (w *Writer) SetProto(proto int) { w.resp3 = proto == 3 }

// Bytes returns what has been written. The slice is valid until the next call that writes, truncates or swaps.
func (w *Writer) Bytes() []byte { return w.buf }

// Len returns how many bytes have been written.
func (w *Writer) Len() int { return len(w.buf) }

// Cap returns the size of the buffer's memory in bytes.
func (w *Writer) Cap() int { return cap(w.buf) }

// Truncate drops everything after the first n bytes. REQUIRES: 0 <= n <= Len.
func (w *Writer) Truncate(n int) { w.buf = w.buf[:n] }

// Swap makes buf (its length included) the buffer and returns the former one, which the caller then owns.
func (w *Writer) Swap(buf []byte) []byte {
	old := w.buf
	w.buf = buf
	return old
}

// Errors returns how many error replies have been written since Reset. A caller that compares it before and after a
// handler learns whether the command failed.
func (w *Writer) Errors() int { return w.errs }

// LastError returns the text of the newest error reply since Reset, "" if there was none.
func (w *Writer) LastError() string { return w.lastErr }

// Simple writes +s. s must not contain CR or LF; it is a constant of ours, so it is not checked.
func (w *Writer) Simple(s string) {
	w.buf = append(w.buf, '+')
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// OK writes +OK.
func (w *Writer) OK() { w.buf = append(w.buf, "+OK\r\n"...) }

// Error writes an error reply. msg starts with its code ("ERR …", "WRONGTYPE …") and has no '-'. Line breaks at its end
// are dropped and others become spaces, as Redis does, so that no text can break the framing.
func (w *Writer) Error(msg string) {
	for len(msg) > 0 && (msg[len(msg)-1] == '\r' || msg[len(msg)-1] == '\n') {
		msg = msg[:len(msg)-1]
	}
	w.errs++
	w.lastErr = msg
	w.buf = append(w.buf, '-')
	at := len(w.buf)
	w.buf = append(w.buf, msg...)
	for i := at; i < len(w.buf); i++ {
		if w.buf[i] == '\r' || w.buf[i] == '\n' {
			w.buf[i] = ' '
		}
	}
	w.buf = append(w.buf, '\r', '\n')
}

// Int writes an integer.
func (w *Writer) Int(n int64) {
	if uint64(n) < 10 {
		w.buf = append(w.buf, ':', '0'+byte(n), '\r', '\n')
		return
	}
	w.buf = redcon.AppendInt(w.buf, n)
}

// header writes prefix, a non-negative length and the line end.
func (w *Writer) header(prefix byte, n int) {
	if uint(n) < 10 {
		w.buf = append(w.buf, prefix, '0'+byte(n), '\r', '\n')
		return
	}
	if uint(n) < 100 {
		w.buf = append(w.buf, prefix, '0'+byte(n/10), '0'+byte(n%10), '\r', '\n')
		return
	}
	if uint(n) < 1000 {
		w.buf = append(w.buf, prefix, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10), '\r', '\n')
		return
	}
	w.buf = append(w.buf, prefix)
	w.buf = strconv.AppendInt(w.buf, int64(n), 10)
	w.buf = append(w.buf, '\r', '\n')
}

// Bulk writes b, copying it.
func (w *Writer) Bulk(b []byte) {
	w.header('$', len(b))
	w.buf = append(w.buf, b...)
	w.buf = append(w.buf, '\r', '\n')
}

// BulkString writes s as a bulk string.
func (w *Writer) BulkString(s string) {
	w.header('$', len(s))
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// BulkInt writes n in decimal as a bulk string.
func (w *Writer) BulkInt(n int64) {
	var tmp [20]byte
	w.Bulk(strconv.AppendInt(tmp[:0], n, 10))
}

// Null writes the null of a single value: $-1, or _ in RESP3.
func (w *Writer) Null() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
		return
	}
	w.buf = append(w.buf, "$-1\r\n"...)
}

// NullArray writes the null that stands for an array: *-1, or _ in RESP3.
func (w *Writer) NullArray() {
	if w.resp3 {
		w.buf = append(w.buf, "_\r\n"...)
		return
	}
	w.buf = append(w.buf, "*-1\r\n"...)
}

// Array announces n elements.
func (w *Writer) Array(n int) { w.header('*', n) }

// Map announces n pairs: %n, in RESP2 an array of 2n elements.
func (w *Writer) Map(n int) {
	if w.resp3 {
		w.header('%', n)
		return
	}
	w.header('*', 2*n)
}

// Set announces n members: ~n, in RESP2 an array.
func (w *Writer) Set(n int) {
	if w.resp3 {
		w.header('~', n)
		return
	}
	w.header('*', n)
}

// Push announces an out-of-band message of n elements: >n, in RESP2 an array.
func (w *Writer) Push(n int) {
	if w.resp3 {
		w.header('>', n)
		return
	}
	w.header('*', n)
}

// Attribute announces n pairs that describe the reply after them and returns true. RESP2 has no attributes: it writes
// nothing and returns false, and the caller leaves the pairs out.
func (w *Writer) Attribute(n int) bool {
	if !w.resp3 {
		return false
	}
	w.header('|', n)
	return true
}

// Double writes f as Redis 7.0 prints scores: a bulk string, in RESP3 a double.
func (w *Writer) Double(f float64) {
	if w.resp3 {
		w.buf = append(w.buf, ',')
		w.buf = AppendDouble(w.buf, f)
		w.buf = append(w.buf, '\r', '\n')
		return
	}
	var tmp [32]byte
	w.Bulk(AppendDouble(tmp[:0], f))
}

// Bool writes #t or #f, in RESP2 :1 or :0.
func (w *Writer) Bool(b bool) {
	switch {
	case w.resp3 && b:
		w.buf = append(w.buf, "#t\r\n"...)
	case w.resp3:
		w.buf = append(w.buf, "#f\r\n"...)
	case b:
		w.buf = append(w.buf, ":1\r\n"...)
	default:
		w.buf = append(w.buf, ":0\r\n"...)
	}
}

// BigNumber writes the decimal digits s as a big number, in RESP2 as a bulk string.
func (w *Writer) BigNumber(s string) {
	if !w.resp3 {
		w.BulkString(s)
		return
	}
	w.buf = append(w.buf, '(')
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// Verbatim writes s as a verbatim string with a format of three characters ("txt", "mkd"), in RESP2 as a bulk string.
func (w *Writer) Verbatim(format, s string) {
	if !w.resp3 {
		w.BulkString(s)
		return
	}
	w.header('=', len(s)+4)
	w.buf = append(w.buf, format...)
	w.buf = append(w.buf, ':')
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, '\r', '\n')
}

// Raw appends b as it is: a reply that was encoded before.
func (w *Writer) Raw(b []byte) { w.buf = append(w.buf, b...) }

// RawString appends s as it is.
func (w *Writer) RawString(s string) { w.buf = append(w.buf, s...) }

// Deferred is the place of a header whose count is not known yet. It comes from DeferArray, DeferMap, DeferSet or
// DeferPush and is used up by Patch.
type Deferred struct {
	at   int
	kind byte
}

// deferredRoom is kept free for a deferred header: enough for counts below ten. Longer ones move the body, which is a
// memmove over bytes that were just written.
const deferredRoom = len("*0\r\n")

func (w *Writer) deferHeader(kind byte) Deferred {
	d := Deferred{at: len(w.buf), kind: kind}
	w.buf = append(w.buf, "*0\r\n"...)
	return d
}

// DeferArray starts an array whose length Patch sets.
func (w *Writer) DeferArray() Deferred { return w.deferHeader('*') }

// DeferMap starts a map whose number of pairs Patch sets.
func (w *Writer) DeferMap() Deferred { return w.deferHeader('%') }

// DeferSet starts a set whose length Patch sets.
func (w *Writer) DeferSet() Deferred { return w.deferHeader('~') }

// DeferPush starts a push message whose length Patch sets.
func (w *Writer) DeferPush() Deferred { return w.deferHeader('>') }

// Patch writes the header of d: n elements, or n pairs for a map. Inner headers must be patched before outer ones, since
// patching moves what comes after the header.
func (w *Writer) Patch(d Deferred, n int) {
	var tmp [24]byte
	kind := d.kind
	if !w.resp3 {
		if kind == '%' {
			n *= 2
		}
		kind = '*'
	}
	h := append(tmp[:0], kind)
	h = strconv.AppendInt(h, int64(n), 10)
	h = append(h, '\r', '\n')
	if extra := len(h) - deferredRoom; extra > 0 {
		end := len(w.buf)
		w.buf = append(w.buf, h[:extra]...)
		copy(w.buf[d.at+len(h):], w.buf[d.at+deferredRoom:end])
	}
	copy(w.buf[d.at:], h)
}
