package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

// fakeServer answers every command with what answer returns.
func fakeServer(t *testing.T, answer func(cmd redcon.Command) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := redcon.NewReader(conn)
				for {
					cmd, err := r.ReadCommand()
					if err != nil {
						return
					}
					if _, err := conn.Write([]byte(answer(cmd))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestLoadSendsEveryKeyOnce(t *testing.T) {
	const keys, conns = 1003, 7
	var seen [keys]atomic.Int32
	addr := fakeServer(t, func(cmd redcon.Command) string {
		var n int64
		if _, err := fmt.Sscanf(string(cmd.Args[1]), "key:%016d", &n); err != nil || len(cmd.Args[1]) != keyLen {
			return "-ERR " + string(cmd.Args[1]) + "\r\n"
		}
		if !bytes.Equal(cmd.Args[2], appendValue(nil, n, 0, 33)) {
			return "-ERR value\r\n"
		}
		seen[n].Add(1)
		return "+OK\r\n"
	})
	res, err := Load{Addr: addr, Conns: conns, Pipeline: 16, Ops: keys,
		Script: func(i int) Script { return filler(int64(i), conns, 33) }}.Run(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, keys, res.Ops)
	require.EqualValues(t, keys, res.Latency.Count())
	for i := range seen {
		require.EqualValues(t, 1, seen[i].Load(), "key %d", i)
	}
}

func TestLoadEndsAtAWrongReply(t *testing.T) {
	var n atomic.Int64
	addr := fakeServer(t, func(redcon.Command) string {
		if n.Add(1) == 100 {
			return "-MISCONF no\r\n"
		}
		return "+OK\r\n"
	})
	_, err := Load{Addr: addr, Conns: 3, Pipeline: 4, Script: func(i int) Script { return overwriter(1, i, 50, 10) }}.Run(context.Background())
	require.ErrorContains(t, err, "MISCONF")
}

func TestReadReplies(t *testing.T) {
	addr := fakeServer(t, func(redcon.Command) string {
		return "*5\r\n$2\r\na\n\r\n:-7\r\n$-1\r\n*-1\r\n*2\r\n+OK\r\n-ERR x\r\n"
	})
	c, err := Dial(addr)
	require.NoError(t, err)
	defer c.Close()
	r, err := c.Do("X")
	require.NoError(t, err)
	require.Equal(t, "[a\n -7 (nil) (nil) [OK (error) ERR x]]", r.String())
}

// modelServer answers GET from m and everything else with an empty array.
func modelServer(t *testing.T, m model) string {
	return fakeServer(t, func(cmd redcon.Command) string {
		if string(cmd.Args[0]) != "GET" {
			return "*0\r\n"
		}
		if s, ok := m[string(cmd.Args[1])].(string); ok {
			return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s)
		}
		return "$-1\r\n"
	})
}
