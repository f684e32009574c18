package bench

import (
	"bytes"
	"errors"
)

// errReply is what cannot be a reply, nor a request, of the protocol.
var errReply = errors.New("not the protocol of Redis")

// longestLine bounds a line without an end, in bytes.
const longestLine = 64 << 10

// replyEnd is the length of the first reply in b, 0 if b does not have all of it. Requests have the form of replies: arrays of bulk
// strings. Nothing is allocated.
func replyEnd(b []byte) (int, error) {
	at := 0
	for left := 1; left > 0; left-- { // replies, those within arrays included
		line := bytes.IndexByte(b[at:], '\n')
		if line < 0 {
			if len(b)-at > longestLine {
				return 0, errReply
			}
			return 0, nil
		}
		if line < 2 || b[at+line-1] != '\r' {
			return 0, errReply
		}
		head := b[at : at+line-1]
		at += line + 1
		switch head[0] {
		case '+', '-', ':':
		case '$', '*':
			n, ok := headCount(head[1:])
			if !ok {
				return 0, errReply
			}
			if n < 0 {
				continue // null
			}
			if head[0] == '*' {
				left += n
				continue
			}
			if len(b)-at < n+2 {
				return 0, nil
			}
			at += n + 2
			if b[at-2] != '\r' || b[at-1] != '\n' {
				return 0, errReply
			}
		default:
			return 0, errReply
		}
	}
	return at, nil
}

// headCount reads the number behind $ and *: -1, or one of up to nine digits.
func headCount(b []byte) (int, bool) {
	if len(b) == 2 && b[0] == '-' && b[1] == '1' {
		return -1, true
	}
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
