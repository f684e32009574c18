package bench

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fountain sends n bytes to each who connects, and ends.
func fountain(t *testing.T, n int) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Write(bytes.Repeat([]byte("x"), n)) // who hangs up is the proxy
			}()
		}
	}()
	return ln.Addr().String()
}

func drain(t *testing.T, addr string) (n int64, err error) {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return io.Copy(io.Discard, conn)
}

func TestProxyCountsAndCutsAtAByte(t *testing.T) {
	p, err := NewProxy(fountain(t, 1_000_000))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	n, err := drain(t, p.Addr())
	require.NoError(t, err)
	require.Equal(t, int64(1_000_000), n)
	require.Equal(t, n, p.Down())

	p.CutAt(1_300_001)
	n, _ = drain(t, p.Addr()) // an end or a reset: both are a cut
	require.Equal(t, int64(1_300_001), p.Down())
	require.LessOrEqual(t, n, int64(300_001))

	n, err = drain(t, p.Addr())
	require.NoError(t, err)
	require.Equal(t, int64(1_000_000), n, "one cut only")
}

func TestProxyBlocksAndOpens(t *testing.T) {
	p, err := NewProxy(fountain(t, 1000))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.Block()
	n, _ := drain(t, p.Addr())
	require.Zero(t, n)
	p.Open()
	n, err = drain(t, p.Addr())
	require.NoError(t, err)
	require.Equal(t, int64(1000), n)
}

func TestProxyThrottles(t *testing.T) {
	p, err := NewProxy(fountain(t, 100_000))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.Throttle(500_000)
	started := time.Now()
	n, err := drain(t, p.Addr())
	require.NoError(t, err)
	require.Equal(t, int64(100_000), n)
	require.GreaterOrEqual(t, time.Since(started), 150*time.Millisecond, "0.2 s at this rate, but for the last portion")
}
