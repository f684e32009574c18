package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// oracle starts a real redis-server on a free port and ends it with the test. Where none is installed the test is skipped.
func oracle(t testing.TB, args ...string) (addr string) { return oracleArgs(t, nil, args...) }

// oracleArgs is oracle with arguments that have to come first: a configuration file.
func oracleArgs(t testing.TB, first []string, args ...string) (addr string) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	require.NoError(t, ln.Close())
	cmd := exec.Command(path, append(append(first, []string{"--port", strconv.Itoa(port), "--save", "", "--dir", t.TempDir(),
		"--enable-debug-command", "yes", "--enable-protected-configs", "yes"}...), args...)...)
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-exited
	})
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}, 10*time.Second, 5*time.Millisecond, "redis-server does not accept connections")
	return addr
}

// holdfast starts a server of ours in this process, on a port that the kernel chooses.
func holdfast(t testing.TB, flags ...string) *Server {
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFlags(append([]string{"--bind", "127.0.0.1", "--dir", t.TempDir(),
		"--enable-debug-command", "yes", "--enable-protected-configs", "yes"}, flags...)))
	s, err := Start(context.Background(), Options{Config: cfg, AnyPort: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Close(ctx))
	})
	return s
}

// wire is a raw connection: replies come back as the bytes they are.
type wire struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *wire {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	return newWire(t, c)
}

func newWire(t testing.TB, c net.Conn) *wire {
	t.Cleanup(func() { _ = c.Close() }) // closed already by some tests
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) send(args ...string) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	w.raw(string(b))
}

func (w *wire) raw(s string) {
	_, err := w.c.Write([]byte(s))
	require.NoError(w.t, err)
}

// do sends a command and returns its reply.
func (w *wire) do(args ...string) string {
	w.send(args...)
	return w.read()
}

// line sends a command written as a line, with the quoting of a configuration file.
func (w *wire) line(s string) string {
	args, ok := splitWords(s)
	require.True(w.t, ok, s)
	return w.do(args...)
}

// read returns the bytes of one reply; "" once the connection is closed.
func (w *wire) read() string {
	require.NoError(w.t, w.c.SetReadDeadline(time.Now().Add(20*time.Second)))
	s, err := w.readReply()
	if err == io.EOF || err != nil && strings.Contains(err.Error(), "reset by peer") {
		return ""
	}
	require.NoError(w.t, err)
	return s
}

func (w *wire) readReply() (string, error) {
	line, err := w.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	count := func() (int, error) { return strconv.Atoi(strings.TrimSpace(line[1:])) }
	switch line[0] {
	case '$', '=':
		n, err := count()
		if err != nil || n < 0 {
			return line, err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(w.r, b)
		return line + string(b), err
	case '*', '~', '>', '%':
		n, err := count()
		if err != nil || n < 0 {
			return line, err
		}
		if line[0] == '%' {
			n *= 2
		}
		out := line
		for range n {
			s, err := w.readReply()
			if err != nil {
				return out, err
			}
			out += s
		}
		return out, nil
	}
	return line, nil
}
