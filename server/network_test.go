package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scriptHandler answers a few commands that show what the network layer does:
//
//	PING, ECHO x         reply at once
//	BIG n                a bulk string of n bytes
//	GATED off            +OK that may leave only once off is durable
//	WAIT                 hands off; Continue blocks until the test or the peer ends it
//	STEP                 hands off; Continue replies +one, and +two when the test lets it go on
//	SLOW x               hands off; Continue replies with x
//	QUIT                 +OK, then close
type scriptHandler struct {
	n       *testNet
	cmd     [][]byte
	closed  chan error
	waiting chan struct{}
}

type testNet struct {
	*Network
	t        *testing.T
	handlers chan *scriptHandler
	release  chan struct{}
	batches  atomic.Int64
}

func (h *scriptHandler) OnData(c *Conn) bool {
	for !c.closeAfterFlush {
		args, err := c.Guard().Next()
		if err != nil {
			c.Out().Error(err.Error())
			c.CloseAfterFlush()
			return false
		}
		if args == nil {
			return false
		}
		switch strings.ToUpper(string(args[0])) {
		case "PING":
			c.Out().Simple("PONG")
		case "ECHO":
			c.Out().Bulk(args[1])
		case "BIG":
			n, _ := parseLength(args[1])
			c.Out().BulkString(strings.Repeat("x", int(n)))
		case "GATED":
			n, _ := parseLength(args[1])
			c.Out().OK()
			c.Hold(n)
		case "ASYNC": // what comes from outside takes its place behind what has been written
			n, _ := parseLength(args[1])
			c.WriteAsyncAfter([]byte("+async\r\n"), n)
			c.TakeAsync()
		case "WAIT", "SLOW", "STEP":
			h.cmd = args
			return true
		case "QUIT":
			c.Out().OK()
			c.CloseAfterFlush()
		}
	}
	return false
}

func (h *scriptHandler) Continue(c *Conn) {
	if string(h.cmd[0]) == "SLOW" {
		c.Out().Bulk(h.cmd[1])
		return
	}
	if string(h.cmd[0]) == "STEP" {
		c.Out().Simple("one")
		h.waiting <- struct{}{}
		<-h.n.release
		c.Out().Simple("two")
		return
	}
	c.SetParked(true)
	defer c.SetParked(false)
	h.waiting <- struct{}{}
	select {
	case <-c.Done():
		c.Out().Error("ERR gone")
	case <-h.n.release:
		c.Out().OK()
	}
}

func (h *scriptHandler) OnClose(_ *Conn, err error) { h.closed <- err }

func startTestNet(t *testing.T, change func(*NetworkConfig)) *testNet {
	t.Helper()
	n := &testNet{t: t, handlers: make(chan *scriptHandler, 1000), release: make(chan struct{})}
	cfg := NetworkConfig{
		Listen:       ListenConfig{Bind: []string{"127.0.0.1"}, Port: -1},
		KeepAlive:    time.Minute,
		OutputLimits: DefaultOutputLimits(),
		BatchEnd:     func(bool) { n.batches.Add(1) },
	}
	cfg.Accept = func(*Conn) connHandler {
		h := &scriptHandler{n: n, closed: make(chan error, 1), waiting: make(chan struct{}, 1)}
		n.handlers <- h
		return h
	}
	if change != nil {
		change(&cfg)
	}
	n.Network = NewNetwork(cfg)
	require.NoError(t, n.Start(context.Background()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, n.Close(ctx))
	})
	return n
}

type testClient struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
	h *scriptHandler
}

func (n *testNet) wrap(c net.Conn) *testClient {
	n.t.Cleanup(func() { c.Close() })
	require.NoError(n.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &testClient{Conn: c, t: n.t, r: bufio.NewReader(c), h: <-n.handlers}
}

func (n *testNet) dial() *testClient {
	n.t.Helper()
	c, err := net.Dial(n.Addrs()[0].Network(), n.Addrs()[0].String())
	require.NoError(n.t, err)
	return n.wrap(c)
}

func (c *testClient) send(s string) {
	c.t.Helper()
	_, err := io.WriteString(c, s)
	require.NoError(c.t, err)
}

func (c *testClient) expect(s string) {
	c.t.Helper()
	b := make([]byte, len(s))
	_, err := io.ReadFull(c.r, b)
	require.NoError(c.t, err, "wanted %q", s)
	require.Equal(c.t, s, string(b))
}

// arrived returns how many bytes the kernel holds for the client, without waiting and without taking them. A read with
// an expired deadline would not do: it fails whether or not there is something to read.
func (c *testClient) arrived() int {
	c.t.Helper()
	rc, err := c.Conn.(syscall.Conn).SyscallConn()
	require.NoError(c.t, err)
	var n int
	var inner error
	require.NoError(c.t, rc.Control(func(fd uintptr) {
		n, _, inner = syscall.Recvfrom(int(fd), make([]byte, 64), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}))
	if inner == syscall.EAGAIN {
		return 0
	}
	require.NoError(c.t, inner)
	return n
}

func (c *testClient) expectEOF() {
	c.t.Helper()
	_, err := c.r.ReadByte()
	require.Error(c.t, err)
}

// expectClosed waits for the server's side of the end.
func (c *testClient) expectClosed(want error) {
	c.t.Helper()
	select {
	case err := <-c.h.closed:
		require.ErrorIs(c.t, err, want)
	case <-time.After(20 * time.Second):
		c.t.Fatal("OnClose was not called")
	}
}

func TestNetworkPipeline(t *testing.T) {
	c := startTestNet(t, nil).dial()
	c.send("PING\r\n*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\nPING\r\n")
	c.expect("+PONG\r\n$3\r\na\r\n\r\n+PONG\r\n")
	for _, b := range []byte("*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n") {
		c.send(string(b))
	}
	c.expect("$5\r\nhello\r\n")
	c.send("PING\r\n*x\r\nPING\r\n")
	c.expect("+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n")
	c.expectEOF()
	c.expectClosed(ErrClosed)
}

func TestNetworkLargePipelineAndReplies(t *testing.T) {
	c := startTestNet(t, nil).dial()
	const n = 3000
	go io.WriteString(c, strings.Repeat("BIG 10000\r\nPING\r\n", n))
	want := "$10000\r\n" + strings.Repeat("x", 10000) + "\r\n+PONG\r\n"
	for range n {
		c.expect(want)
	}
	c.send("QUIT\r\n")
	c.expect("+OK\r\n")
	c.expectEOF()
}

func TestNetworkHandOff(t *testing.T) {
	n := startTestNet(t, nil)
	c := n.dial()
	c.send("PING\r\nSLOW first\r\nPING\r\nSLOW second\r\nWAIT\r\nPING\r\n")
	c.expect("+PONG\r\n$5\r\nfirst\r\n+PONG\r\n$6\r\nsecond\r\n")
	<-c.h.waiting
	c.send("ECHO later\r\n")
	n.release <- struct{}{}
	c.expect("+OK\r\n+PONG\r\n$5\r\nlater\r\n")
}

func TestNetworkDisconnectWhileHandedOff(t *testing.T) {
	n := startTestNet(t, nil)
	c := n.dial()
	c.send("WAIT\r\n")
	<-c.h.waiting
	require.NoError(t, c.Close())
	select {
	case err := <-c.h.closed:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("disconnect not noticed")
	}
}

func TestNetworkGate(t *testing.T) {
	n := startTestNet(t, nil)
	a, b := n.dial(), n.dial()
	a.send("PING\r\nGATED 10\r\n")
	b.send("GATED 20\r\nPING\r\nGATED 5\r\n")
	a2 := n.dial()
	a2.send("PING\r\n")
	a2.expect("+PONG\r\n")
	n.SetDurable(9)
	a2.send("PING\r\n")
	a2.expect("+PONG\r\n")
	// The loop has had two turns since it read what a sent, so an open gate would show here.
	require.Zero(t, a.arrived(), "a gated reply left early (A1)")
	require.Zero(t, b.arrived(), "a gated reply left early (A1)")
	n.SetDurable(10)
	a.expect("+PONG\r\n+OK\r\n")
	require.Zero(t, b.arrived(), "one gate opened another (A1)")
	// The peer sends no more, but what it asked for still comes.
	require.NoError(t, b.Conn.(*net.TCPConn).CloseWrite())
	n.SetDurable(20)
	b.expect("+OK\r\n+PONG\r\n+OK\r\n")
	b.expectEOF()
	b.expectClosed(io.EOF)
}

func TestNetworkWriteAsync(t *testing.T) {
	n := startTestNet(t, nil)
	c := n.dial()
	c.send("WAIT\r\n")
	<-c.h.waiting
	var conn *Conn
	n.Each(func(x *Conn) { conn = x })
	conn.WriteAsync([]byte("+push\r\n"))
	c.expect("+push\r\n")
	conn.Close()
	c.expectEOF()
	c.expectClosed(ErrClosed)
}

// What comes from outside waits for its own gate and for those before it, whoever puts it into the output (A1).
func TestNetworkAsyncGate(t *testing.T) {
	n := startTestNet(t, nil)
	c, probe := n.dial(), n.dial()
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
	conns := map[string]*Conn{}
	n.Each(func(x *Conn) { conns[x.RemoteAddr()] = x })
	conn := conns[c.Conn.LocalAddr().String()]
	n.SetDurable(4)
	conn.WriteAsyncAfter([]byte("+open\r\n"), 4)
	c.expect("+open\r\n")
	conn.WriteAsyncAfter([]byte("+first\r\n"), 10)
	conn.WriteAsync([]byte("+second\r\n"))
	turn := func() {
		probe.send("PING\r\n")
		probe.expect("+PONG\r\n")
	}
	turn()
	turn()
	c.send("PING\r\nGATED 7\r\n")
	turn()
	n.SetDurable(9)
	turn()
	turn()
	require.Zero(t, c.arrived(), "left early (A1)")
	n.SetDurable(10)
	c.expect("+first\r\n+second\r\n+PONG\r\n+OK\r\n")
	conn.WriteAsyncAfter([]byte("+third\r\n"), 12)
	turn()
	n.SetDurable(11)
	turn()
	require.Zero(t, c.arrived(), "left early (A1)")
	n.SetDurable(12)
	c.expect("+third\r\n")
	c.send("PING\r\nASYNC 14\r\nPING\r\nASYNC 0\r\n")
	turn()
	n.SetDurable(13)
	turn()
	turn()
	require.Zero(t, c.arrived(), "left early (A1)")
	n.SetDurable(14)
	c.expect("+PONG\r\n+async\r\n+PONG\r\n+async\r\n")
}

func TestNetworkOutputLimit(t *testing.T) {
	n := startTestNet(t, func(cfg *NetworkConfig) { cfg.OutputLimits[ClassNormal].Hard = 1 << 20 })
	c := n.dial()
	// Never reads: the kernel's buffers fill, then ours.
	go io.WriteString(c, strings.Repeat("BIG 100000\r\n", 1000))
	c.expectClosed(ErrOutputLimit)
}

func TestNetworkMaxClients(t *testing.T) {
	n := startTestNet(t, func(cfg *NetworkConfig) { cfg.MaxClients = 1 })
	c := n.dial()
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
	second, err := net.Dial("tcp", n.Addrs()[0].String())
	require.NoError(t, err)
	defer second.Close()
	all, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Equal(t, "-ERR max number of clients reached\r\n", string(all))
	require.Equal(t, int64(1), n.Stats().Rejected)
}

func TestNetworkUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	n := startTestNet(t, func(cfg *NetworkConfig) {
		cfg.Listen.Bind, cfg.Listen.Port = nil, 0
		cfg.Listen.UnixSocket, cfg.Listen.UnixPerm = path, 0o700
	})
	c := n.dial()
	c.send("PING\r\n")
	c.expect("+PONG\r\n")
	n.Each(func(c *Conn) { require.Equal(t, path+":0", c.RemoteAddr()) })
}

func TestNetworkCloseFlushes(t *testing.T) {
	n := startTestNet(t, nil)
	a, b := n.dial(), n.dial()
	a.send("WAIT\r\n")
	<-a.h.waiting
	b.send("PING\r\nGATED 7\r\n")
	probe := n.dial()
	probe.send("PING\r\n")
	probe.expect("+PONG\r\n")
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, n.Close(context.Background())) })
	a.expect("-ERR gone\r\n")
	a.expectEOF()
	n.SetDurable(7)
	b.expect("+PONG\r\n+OK\r\n")
	b.expectEOF()
	wg.Wait()
}

func TestNetworkSeveralLoops(t *testing.T) {
	n := startTestNet(t, func(cfg *NetworkConfig) { cfg.Loops = 3 })
	var clients []*testClient
	for range 20 {
		clients = append(clients, n.dial())
	}
	for _, c := range clients {
		c.send("PING\r\nSLOW x\r\n")
	}
	for _, c := range clients {
		c.expect("+PONG\r\n$1\r\nx\r\n")
	}
	runtime.KeepAlive(clients)
}

// What is written from outside follows the replies of what has been executed, also while more is being executed.
func TestAsyncFollowsReplies(t *testing.T) {
	plain := startTestNet(t, nil)
	secure, dialTLS := startTLSNet(t, nil)
	for n, c := range map[*testNet]*testClient{plain: plain.dial(), secure: secure.wrap(dialTLS(true))} {
		for range 20 {
			c.send("PING\r\nSTEP\r\nPING\r\n")
			<-c.h.waiting
			n.Each(func(conn *Conn) { conn.WriteAsync([]byte("+push\r\n")) })
			n.release <- struct{}{}
			b := make([]byte, len("+PONG\r\n+one\r\n+two\r\n+PONG\r\n+push\r\n"))
			_, err := io.ReadFull(c.r, b)
			require.NoError(t, err)
			require.Regexp(t, `^\+PONG\r\n\+one\r\n\+two\r\n(\+PONG\r\n\+push|\+push\r\n\+PONG)\r\n$`, string(b))
		}
	}
}
