package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each reply ends where its last byte is, and before that it is not complete.
func TestReplyEnd(t *testing.T) {
	for _, reply := range []string{"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$-1\r\n", "$0\r\n\r\n", "$5\r\nab\r\nc\r\n", "*-1\r\n", "*0\r\n",
		"*3\r\n$1\r\na\r\n:1\r\n*2\r\n+x\r\n$-1\r\n", "*2\r\n*0\r\n*1\r\n:1\r\n"} {
		for n := range len(reply) {
			end, err := replyEnd([]byte(reply[:n]))
			require.NoError(t, err, "%q of %q", reply[:n], reply)
			require.Zero(t, end, "%q of %q", reply[:n], reply)
		}
		end, err := replyEnd([]byte(reply + "+more"))
		require.NoError(t, err)
		require.Equal(t, len(reply), end, reply)
	}
	for _, wrong := range []string{"\n", "x\r\n", "+OK\n", "$\r\n", "$-2\r\n", "$x\r\n", "*1234567890\r\n", "$1\r\nabc", "\r\n", "PING\r\n", strings.Repeat("+", longestLine+1)} {
		_, err := replyEnd([]byte(wrong))
		require.ErrorIs(t, err, errReply, "%q", wrong[:min(len(wrong), 20)])
	}
}

// Where an end is found, one byte less is not a reply; and nothing makes it read beyond what there is.
func FuzzReplyEnd(f *testing.F) {
	f.Add([]byte("+OK\r\n"))
	f.Add([]byte("*2\r\n$1\r\na\r\n:1\r\n"))
	f.Add([]byte("$-1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, err := replyEnd(b)
		require.LessOrEqual(t, end, len(b))
		if err != nil || end == 0 {
			return
		}
		half, err := replyEnd(b[:end-1])
		require.NoError(t, err)
		require.Zero(t, half)
	})
}
